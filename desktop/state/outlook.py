"""What the engine says that the next job would take; lives on the UI thread, fed by the bridge."""

from dataclasses import replace
from enum import Enum, auto

from PySide6.QtCore import QObject, Signal, Slot

from engine.commands import BackendState, GenerateVideo, JobOutlook, PlanJob
from engine.errors import EngineError, ErrorCode
from engine.events import Stage, StageOutlook
from engine.generation import SamplingSettings

DECODE_SETTINGS = frozenset(
    {"strip_rows", "chunk_latents", "tile_width", "tile_height", "stride_width", "stride_height"}
)
MEASURED_STAGES = (Stage.TEXT, Stage.IMAGE, Stage.SAMPLE, Stage.DECODE)  # that take memory worth a bar


class EngineStanding(Enum):
    """Whether there is an engine to ask."""

    LOADING = auto()
    READY = auto()
    BROKEN = auto()


class OutlookState(QObject):
    """The latest answer, which stays while the next one is made; `refusal` is why there is none.

    What this machine can do, `backends` and `compile_reason`, is kept from the last answer that there was.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.standing = EngineStanding.LOADING
        self.wanted: PlanJob | None = None
        self.is_put_off = False  # other settings than the planned ones wait for the running job to end
        self.outlook: JobOutlook | None = None
        self.refusal: EngineError | None = None
        self.ground_bytes: int | None = None  # what a stage would find held, as the engine said last
        self.backends: tuple[BackendState, ...] = ()
        self.compile_reason: str | None = None  # None before the engine has said it

    @property
    def is_invalid(self) -> bool:
        """Whether the engine will refuse these settings however much memory there is."""
        return self.refusal is not None and not self.is_over_budget

    @property
    def refused_setting(self) -> str | None:
        """The name of the setting that the engine will refuse, where it is one."""
        if self.refusal is None or self.refusal.code is not ErrorCode.INVALID_SETTING:
            return None
        return str(self.refusal.details.get("name"))

    @property
    def is_decode_refused(self) -> bool:
        """Whether it is for decoding that there is no plan."""
        return self.refusal is not None and (self.is_over_budget or self.refused_setting in DECODE_SETTINGS)

    @property
    def is_over_budget(self) -> bool:
        """Whether the budget is too small for one of the stages."""
        if self.refusal is not None:
            return self.refusal.code is ErrorCode.NO_PLAN_FITS
        return self.outlook is not None and not self.outlook.planned.fits

    @property
    def smallest_bytes(self) -> int | None:
        """The smallest budget that works, where the one in force does not."""
        if self.refusal is not None:
            smallest = self.refusal.details.get("smallest_bytes")
            return None if smallest is None else int(smallest)
        if self.outlook is None or self.outlook.planned.fits:
            return None
        return max(stage.smallest_bytes for stage in self.outlook.planned.stages)

    @property
    def budget_bytes(self) -> int | None:
        """The budget that the engine plans with; None before it has planned, and for a machine without limits."""
        return None if self.outlook is None else self.outlook.planned.budget_bytes

    @property
    def highest(self) -> StageOutlook | None:
        """The stage that will take most."""
        if self.outlook is None or not self.outlook.planned.stages:
            return None
        return max(self.outlook.planned.stages, key=lambda stage: stage.predicted_peak_bytes)

    @property
    def blocks(self) -> int | None:
        """How many blocks the model has."""
        return None if self.outlook is None else self.outlook.planned.sampling.blocks

    def stage(self, stage: Stage) -> StageOutlook | None:
        """What this stage will take; None for one that the job has not."""
        stages = () if self.outlook is None else self.outlook.planned.stages
        return next((each for each in stages if each.stage is stage), None)

    def set_standing(self, standing: EngineStanding) -> None:
        """The engine was loaded, or could not be."""
        self.standing = standing
        self.changed.emit()

    def expect(self, request: PlanJob) -> None:
        """A plan was asked for; what is known stays on show unless it is of another clip or another way to decode."""
        if self.wanted is None or _clip_of(request.command) != _clip_of(self.wanted.command):
            self.outlook = self.refusal = None
        self.wanted, self.is_put_off = request, False
        self.changed.emit()

    def forget(self) -> None:
        """There is nothing that could be planned."""
        self.wanted = self.outlook = self.refusal = None
        self.is_put_off = False
        self.changed.emit()

    def put_off(self, request: PlanJob | None) -> None:
        """A plan for `request` has to wait for the running job to end, unless it is the one that is known."""
        is_other = request != self.wanted
        if is_other != self.is_put_off:
            self.is_put_off = is_other
            self.changed.emit()

    @Slot(object, object)
    def take_outlook(self, request: PlanJob, outlook: JobOutlook) -> None:
        """The engine has a plan. An answer to an earlier question is left alone."""
        if request != self.wanted:
            return
        self.outlook, self.refusal, self.ground_bytes = outlook, None, outlook.ground_bytes
        self.backends, self.compile_reason = outlook.backends, outlook.compile_reason
        self.changed.emit()

    @Slot(object, object)
    def take_refusal(self, request: PlanJob, refusal: EngineError) -> None:
        """The engine has no plan."""
        if request == self.wanted:
            self.outlook, self.refusal = None, refusal
            self.changed.emit()


def _clip_of(command: GenerateVideo) -> GenerateVideo:
    """The command without what only moves its figures: budgets, and how sampling is fitted into them."""
    decode = replace(command.decode, budget_bytes=None)
    return replace(command, decode=decode, budget_bytes=None, sampling=SamplingSettings(), rounds_input=False)
