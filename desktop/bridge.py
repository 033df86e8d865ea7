"""The window's end of the engine: commands out, events back as typed signals; lives on the UI thread."""

from typing import assert_never

from PySide6.QtCore import QObject, Signal, Slot

from desktop.plan_mailbox import PlanMailbox
from engine.cancel import CancelFlag
from engine.commands import Command, JobOutlook, PlanJob
from engine.errors import EngineError
from engine.events import (
    DecodePlanned,
    DecodeRecut,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobPlanned,
    JobStarted,
    LatentsSaved,
    LoraMatched,
    ProductsChosen,
    SamplingKept,
    SamplingRecut,
    StageFinished,
    StageProgressed,
    StageStarted,
    WeightsRead,
)


class EngineBridge(QObject):
    """Hands over one job at a time and turns the engine's events into one signal a kind."""

    command_submitted = Signal(object)  # Command
    plan_requested = Signal()  # what is asked lies in `mailbox`
    plan_made = Signal(object, object)  # PlanJob, JobOutlook
    plan_refused = Signal(object, object)  # PlanJob, EngineError
    job_started = Signal(object)  # JobStarted
    stage_started = Signal(object)  # StageStarted
    stage_progressed = Signal(object)  # StageProgressed
    lora_matched = Signal(object)  # LoraMatched
    products_chosen = Signal(object)  # ProductsChosen
    weights_read = Signal(object)  # WeightsRead
    stage_finished = Signal(object)  # StageFinished
    job_planned = Signal(object)  # JobPlanned
    sampling_recut = Signal(object)  # SamplingRecut
    sampling_kept = Signal(object)  # SamplingKept
    decode_planned = Signal(object)  # DecodePlanned
    decode_recut = Signal(object)  # DecodeRecut
    latents_saved = Signal(object)  # LatentsSaved
    job_finished = Signal(object)  # JobFinished
    job_cancelled = Signal(object)  # JobCancelled
    job_failed = Signal(object)  # JobFailed

    def __init__(self, cancel: CancelFlag, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._cancel = cancel
        self.mailbox = PlanMailbox()

    def submit(self, command: Command) -> None:
        """Send a job to the engine thread. Only when no job is under way: the cancel flag is shared.

        A plan that was asked for and not begun is given up: the job makes its own.
        """
        self._cancel.clear()
        self.mailbox.clear()
        self.command_submitted.emit(command)

    def cancel(self) -> None:
        """Ask the running job to stop; `job_cancelled` tells when it has."""
        self._cancel.set()

    def plan(self, request: PlanJob) -> None:
        """Ask what a job would take. Of requests that come faster than answers only the last is answered."""
        self.mailbox.put(request)
        self.plan_requested.emit()

    @Slot(object, object)
    def handle_plan(self, request: PlanJob, answer: JobOutlook | EngineError) -> None:
        """Take the answer to a request from the engine thread (the connection is queued)."""
        if isinstance(answer, EngineError):
            self.plan_refused.emit(request, answer)
        else:
            self.plan_made.emit(request, answer)

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
            case LoraMatched():
                self.lora_matched.emit(event)
            case ProductsChosen():
                self.products_chosen.emit(event)
            case WeightsRead():
                self.weights_read.emit(event)
            case StageFinished():
                self.stage_finished.emit(event)
            case JobPlanned():
                self.job_planned.emit(event)
            case SamplingRecut():
                self.sampling_recut.emit(event)
            case SamplingKept():
                self.sampling_kept.emit(event)
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
