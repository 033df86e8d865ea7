"""The window's end of the engine: commands out, events back as typed signals; lives on the UI thread."""

from typing import assert_never

from PySide6.QtCore import QObject, Signal, Slot

from engine.cancel import CancelFlag
from engine.commands import Command
from engine.events import (
    DecodePlanned,
    DecodeRecut,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobStarted,
    LatentsSaved,
    StageFinished,
    StageProgressed,
    StageStarted,
)


class EngineBridge(QObject):
    """Hands over one job at a time and turns the engine's events into one signal a kind."""

    command_submitted = Signal(object)  # Command
    job_started = Signal(object)  # JobStarted
    stage_started = Signal(object)  # StageStarted
    stage_progressed = Signal(object)  # StageProgressed
    stage_finished = Signal(object)  # StageFinished
    decode_planned = Signal(object)  # DecodePlanned
    decode_recut = Signal(object)  # DecodeRecut
    latents_saved = Signal(object)  # LatentsSaved
    job_finished = Signal(object)  # JobFinished
    job_cancelled = Signal(object)  # JobCancelled
    job_failed = Signal(object)  # JobFailed

    def __init__(self, cancel: CancelFlag, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cancel = cancel

    def submit(self, command: Command) -> None:
        """Send a job to the engine thread. Only when no job is under way: the cancel flag is shared."""
        self._cancel.clear()
        self.command_submitted.emit(command)

    def cancel(self) -> None:
        """Ask the running job to stop; `job_cancelled` tells when it has."""
        self._cancel.set()

    @Slot(object)
    def handle(self, event: Event) -> None:
        """Take one event from the engine thread (the connection is queued)."""
        match event:
            case JobStarted():
                self.job_started.emit(event)
            case StageStarted():
                self.stage_started.emit(event)
            case StageProgressed():
                self.stage_progressed.emit(event)
            case StageFinished():
                self.stage_finished.emit(event)
            case DecodePlanned():
                self.decode_planned.emit(event)
            case DecodeRecut():
                self.decode_recut.emit(event)
            case LatentsSaved():
                self.latents_saved.emit(event)
            case JobFinished():
                self.job_finished.emit(event)
            case JobCancelled():
                self.job_cancelled.emit(event)
            case JobFailed():
                self.job_failed.emit(event)
            case _:
                assert_never(event)
