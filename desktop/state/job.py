"""The job that runs or ran last, as the window shows it; lives on the UI thread, fed by the bridge."""

import time
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from desktop.state.time_left import TimeLeft
from engine.commands import Command, GenerateVideo
from engine.events import (
    DecodePlanned,
    DecodeRecut,
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
    Stage,
    StageFinished,
    StageProgressed,
    StageStarted,
    WeightsRead,
)


class Phase(Enum):
    """Where the one job of the window stands."""

    IDLE = auto()
    WAITING = auto()  # handed over; the engine has not answered yet
    RUNNING = auto()
    CANCELLING = auto()
    FINISHED = auto()
    CANCELLED = auto()
    FAILED = auto()


BUSY = frozenset({Phase.WAITING, Phase.RUNNING, Phase.CANCELLING})


@dataclass(slots=True)
class StageProgress:
    """One stage of the job: `done` of `total` units, and seconds and peak once it has ended."""

    done: int = 0
    total: int = 0
    seconds: float | None = None
    peak_bytes: int | None = None
    predicted_bytes: int | None = None
    budget_bytes: int | None = None

    @property
    def fraction(self) -> float:
        """0 to 1."""
        if self.seconds is not None:
            return 1.0
        return self.done / self.total if self.total else 0.0


class JobState(QObject):
    """Phase, stages and outcome of the current job."""

    phase_changed = Signal(object)  # Phase
    progress_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.phase = Phase.IDLE
        self.command: Command | None = None
        self.started: JobStarted | None = None
        self.stages: dict[Stage, StageProgress] = {}
        self.stage: Stage | None = None
        self.planned: JobPlanned | None = None
        self.plan: DecodePlanned | None = None
        self.sampling_recut: SamplingRecut | None = None  # how sampling is cut since memory ran out
        self.kept_steps = 0  # of sampling that are on disk, from which the job can go on
        self.loras: list[LoraMatched] = []
        self.products: list[ProductsChosen] = []
        self.reading: WeightsRead | None = None  # while a network is on its way from its files
        self.recut_rows: int | None = None  # rows of a strip since memory ran out while decoding
        self.latents: Path | None = None
        self.finished: JobFinished | None = None
        self.failure: JobFailed | None = None
        self._time_left = TimeLeft()

    @property
    def is_busy(self) -> bool:
        """Whether a job is under way, from handing it over to its last event."""
        return self.phase in BUSY

    @property
    def predicted_bytes(self) -> int | None:
        """The predicted peak of the running stage."""
        return self.stages[self.stage].predicted_bytes if self.is_busy and self.stage is not None else None

    @property
    def budget_bytes(self) -> int | None:
        """What the running stage is held to, or None when it is held to nothing."""
        return self.stages[self.stage].budget_bytes if self.is_busy and self.stage is not None else None

    def seconds_left(self) -> tuple[float | None, float | None]:
        """Seconds until the running stage and until the job ends; None where unknown."""
        now = time.monotonic()
        return self._time_left.stage_seconds(now), self._time_left.job_seconds(now)

    def submit(self, command: Command) -> None:
        """A job was handed to the engine."""
        self.command = command
        self.started = self.stage = self.plan = self.latents = self.finished = self.failure = None
        self.planned = self.sampling_recut = self.recut_rows = self.reading = None
        self.kept_steps = 0
        self.stages, self.loras, self.products = {}, [], []
        self._enter(Phase.WAITING)

    def request_cancel(self) -> None:
        """The person asked to stop."""
        if self.phase in (Phase.WAITING, Phase.RUNNING):
            self._enter(Phase.CANCELLING)

    @Slot(object)
    def start(self, event: JobStarted) -> None:
        self.started = event
        self.stages = {stage: StageProgress() for stage in event.stages}
        self._time_left.start_job(_kind(self.command, event), event.stages)
        if self.phase is Phase.WAITING:
            self._enter(Phase.RUNNING)

    @Slot(object)
    def start_stage(self, event: StageStarted) -> None:
        self.stage = event.stage
        progress = self._of(event.stage)
        progress.predicted_bytes, progress.budget_bytes = event.predicted_peak_bytes, event.budget_bytes
        self._time_left.start_stage(event.stage)
        self.progress_changed.emit()

    @Slot(object)
    def progress_stage(self, event: StageProgressed) -> None:
        progress = self._of(event.stage)
        progress.done, progress.total = event.done, event.total
        self._time_left.progress(time.monotonic(), event.done, event.total)
        self.progress_changed.emit()

    @Slot(object)
    def match_lora(self, event: LoraMatched) -> None:
        self.loras.append(event)

    @Slot(object)
    def choose_products(self, event: ProductsChosen) -> None:
        self.products.append(event)
        self.progress_changed.emit()

    @Slot(object)
    def read_weights(self, event: WeightsRead) -> None:
        self.reading = event if event.done_bytes < event.total_bytes else None
        self.progress_changed.emit()

    @Slot(object)
    def finish_stage(self, event: StageFinished) -> None:
        progress = self._of(event.stage)
        progress.seconds, progress.peak_bytes = event.seconds, event.peak_bytes
        self._time_left.finish_stage(event.stage, event.seconds)
        self.progress_changed.emit()

    @Slot(object)
    def plan_job(self, event: JobPlanned) -> None:
        self.planned = event
        self.progress_changed.emit()

    @Slot(object)
    def recut_sampling(self, event: SamplingRecut) -> None:
        self.sampling_recut = event
        self.progress_changed.emit()

    @Slot(object)
    def keep_steps(self, event: SamplingKept) -> None:
        self.kept_steps = event.steps
        self.progress_changed.emit()

    @Slot(object)
    def plan_decode(self, event: DecodePlanned) -> None:
        self.plan = event

    @Slot(object)
    def recut_decode(self, event: DecodeRecut) -> None:
        self.recut_rows = event.strip_rows
        self.progress_changed.emit()

    @Slot(object)
    def save_latents(self, event: LatentsSaved) -> None:
        self.latents = event.path

    @Slot(object)
    def finish(self, event: JobFinished) -> None:
        self.finished = event
        self._time_left.finish_job()
        self._enter(Phase.FINISHED)

    @Slot(object)
    def end_cancelled(self, event: JobCancelled) -> None:
        self.latents, self.kept_steps = event.latents, event.kept_steps
        self._enter(Phase.CANCELLED)

    @Slot(object)
    def fail(self, event: JobFailed) -> None:
        self.failure = event
        self.latents, self.kept_steps = event.latents, event.kept_steps
        self._enter(Phase.FAILED)

    def _of(self, stage: Stage) -> StageProgress:
        return self.stages.setdefault(stage, StageProgress())

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.phase_changed.emit(phase)
        self.progress_changed.emit()


def _kind(command: Command | None, started: JobStarted) -> object:
    """Jobs that are equal in this take about equally long."""
    size = (started.width, started.height, started.frames)
    if not isinstance(command, GenerateVideo):
        return size
    is_guided = command.guidance != 1  # without guidance every step runs the model once instead of twice
    return (*size, command.model, command.steps, is_guided)
