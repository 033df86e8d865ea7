"""Stages of a job: each is announced, timed, and its peak memory measured. Engine thread."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from engine.events import Event, Stage, StageFinished, StageProgressed, StageStarted
from engine.memory.budget import PeakMemory


@dataclass(slots=True)
class Stages:
    """What the stages of one job took so far; `current` is the one that runs or failed."""

    emit: Callable[[Event], None]
    device: torch.device
    current: Stage | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    peak_bytes: dict[Stage, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def run(self, stage: Stage, predicted_peak_bytes: int | None = None) -> Iterator[Callable[[int, int], None]]:
        """Run the block as `stage`; gives a function that reports progress as done of total."""
        self.current = stage
        self.emit(StageStarted(stage, predicted_peak_bytes))
        began = time.perf_counter()
        with PeakMemory(self.device) as peak:
            yield lambda done, total: self.emit(StageProgressed(stage, done, total))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        self.seconds[stage] = time.perf_counter() - began
        self.peak_bytes[stage] = peak.bytes
        self.emit(StageFinished(stage, self.seconds[stage], peak.bytes))

    @property
    def highest_peak_bytes(self) -> int:
        """The largest peak of any stage that has finished."""
        return max(self.peak_bytes.values(), default=0)
