"""One job on the tiny model in this process, with everything it said; shared by the tests of jobs."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import Command, GenerateVideo
from engine.engine import Engine
from engine.errors import ErrorCode
from engine.events import (
    Event,
    JobFailed,
    JobFinished,
    LatentsSaved,
)
from engine.output.job_folder import FRAMES_FILE

WIDTH, HEIGHT, FRAMES = 64, 48, 9


class Run:
    """One job run in this process, with everything it said."""

    def __init__(self, command: Command, jobs: Path, on_event: Callable[[Event], None] | None = None) -> None:
        self.events: list[Event] = []
        self.canvas, self.cancel = Canvas(), CancelFlag()
        self._on_event = on_event
        self.command, self.engine = command, Engine(jobs)

    def __call__(self) -> Event:
        self.engine.run(self.command, self._emit, self.canvas, self.cancel)
        return self.events[-1]

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)


def tiny_command(model: Path, folder: Path) -> GenerateVideo:
    return GenerateVideo(
        "a red 球; x=1\nbouncing", folder / "out" / "clip.mp4", model, width=WIDTH, height=HEIGHT, frames=FRAMES,
        steps=3, seed=11,
    )  # fmt: skip


def latents_of(command: GenerateVideo, jobs: Path) -> torch.Tensor:
    run = Run(command, jobs)
    assert isinstance(run(), JobFinished)
    return load_file(next(event.path for event in run.events if isinstance(event, LatentsSaved)))["latents"]


def kept_in(job_folder: Path) -> list[str]:
    """The names of what a job leaves in its folder, without the frames that Windows keeps while a canvas maps them."""
    names = sorted(file.name for file in job_folder.iterdir())
    return [name for name in names if sys.platform != "win32" or name != FRAMES_FILE]


def assert_failed(end: Event, code: ErrorCode) -> JobFailed:
    assert isinstance(end, JobFailed), end
    assert end.code is code
    return end
