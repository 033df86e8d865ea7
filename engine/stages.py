"""Stages of a job: each is announced, timed, and its peak memory measured. Engine thread."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from engine.events import Event, Stage, StageFinished, StageProgressed, StageStarted
from engine.memory.budget import PeakMemory, held_bytes
from engine.memory.hold import held_to

# What a CPU's libraries take beside tensors, 400 to 710 MiB in six cuts of the embedded model: the library compiles
# kernels and lays out its operands anew for every shape, and freed memory is not handed back at once.
CPU_LIBRARIES_BYTES = {Stage.DECODE: 768 << 20, Stage.IMAGE: 768 << 20}
CPU_LIBRARIES_BYTES_ELSEWHERE = 32 << 20


def libraries_bytes(stage: Stage, device: torch.device) -> int:
    """The allowance for what libraries take beside tensors; a card's allocator sees only tensors."""
    return CPU_LIBRARIES_BYTES.get(stage, CPU_LIBRARIES_BYTES_ELSEWHERE) if device.type == "cpu" else 0


@dataclass(slots=True)
class Stages:
    """What the stages of one job were to take and took so far; `current` is the one that runs or failed.

    limit_bytes: what a card may reserve for a stage, where a person has said so.
    """

    emit: Callable[[Event], None]
    device: torch.device
    current: Stage | None = None
    seconds: dict[Stage, float] = field(default_factory=dict)
    peak_bytes: dict[Stage, int] = field(default_factory=dict)
    predicted_bytes: dict[Stage, int] = field(default_factory=dict)
    budget_bytes: dict[Stage, int] = field(default_factory=dict)
    limit_bytes: int | None = None

    @contextlib.contextmanager
    def run(
        self, stage: Stage, predicted_peak_bytes: int, budget_bytes: int | None = None
    ) -> Iterator[Callable[[int, int], None]]:
        """Run the block as `stage`; gives a function that reports progress as done of total.

        Prediction and budget count the stage's own tensors. They are announced on top of what is held already, with
        the allowance for libraries. A card gives the stage no more than the limit.
        """
        self.current = stage
        began, peak = time.perf_counter(), PeakMemory(self.device)
        try:
            with peak:
                ground = held_bytes(self.device) + libraries_bytes(stage, self.device)
                budget = None if budget_bytes is None else ground + budget_bytes
                self._promise(stage, ground + predicted_peak_bytes, budget)
                limit = None if self.limit_bytes is None else ground + self.limit_bytes
                with held_to(self.device, limit):
                    yield lambda done, total: self.emit(StageProgressed(stage, done, total))
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
        finally:
            self.peak_bytes[stage] = peak.bytes  # also of a stage that failed
        self.seconds[stage] = time.perf_counter() - began
        self.emit(StageFinished(stage, self.seconds[stage], peak.bytes))

    def _promise(self, stage: Stage, predicted_peak_bytes: int, budget_bytes: int | None) -> None:
        self.predicted_bytes[stage] = predicted_peak_bytes
        if budget_bytes is not None:
            self.budget_bytes[stage] = budget_bytes
        self.emit(StageStarted(stage, predicted_peak_bytes, budget_bytes))

    @property
    def highest_peak_bytes(self) -> int:
        """The largest peak of any stage."""
        return max(self.peak_bytes.values(), default=0)
