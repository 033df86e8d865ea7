"""How the person wants videos decoded, and what the engine answered to that; lives on the UI thread."""

from dataclasses import replace
from enum import Enum, auto

from PySide6.QtCore import QObject, Signal, Slot

from engine.commands import DecodeMode, DecodeOutlook, DecodeSettings, PlanDecode
from engine.errors import EngineError, ErrorCode

BUDGET_STEP_BYTES = 16 << 20


class DecodeChoice(Enum):
    """The ways to decode that a person can tell apart; the two orders of strips are one."""

    AUTOMATIC = auto()
    WHOLE = auto()
    STRIPS = auto()
    REFERENCE = auto()


class EngineStanding(Enum):
    """Whether there is an engine to ask."""

    LOADING = auto()
    READY = auto()
    BROKEN = auto()


MODES = {
    DecodeChoice.AUTOMATIC: DecodeMode.AUTOMATIC,
    DecodeChoice.WHOLE: DecodeMode.WHOLE,
    DecodeChoice.STRIPS: DecodeMode.STRIP_MAJOR,
    DecodeChoice.REFERENCE: DecodeMode.REFERENCE,
}
CHOICES = {mode: choice for choice, mode in MODES.items()} | {DecodeMode.FRAME_MAJOR: DecodeChoice.STRIPS}


class DecodeState(QObject):
    """The settings of the decode panel and of the gauge's line, and the plan that they lead to.

    `values` keep what was set for a way that is not chosen now; `settings` leave it out. `outlook` is the latest plan
    and stays while the next one is made; `refusal` is why there is none.
    """

    settings_changed = Signal()
    outlook_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.values = DecodeSettings()
        self.standing = EngineStanding.LOADING
        self.wanted: PlanDecode | None = None
        self.outlook: DecodeOutlook | None = None
        self.refusal: EngineError | None = None
        self.ground_bytes: int | None = None  # what a decode would find held, as the engine said last

    @property
    def choice(self) -> DecodeChoice:
        """The chosen way."""
        return CHOICES[self.values.mode]

    @property
    def is_invalid(self) -> bool:
        """Whether the engine will refuse these settings however much memory there is."""
        return self.refusal is not None and self.refusal.code is ErrorCode.INVALID_SETTING

    @property
    def is_over_budget(self) -> bool:
        """Whether the budget is too small for every plan."""
        return self.refusal is not None and self.refusal.code is ErrorCode.NO_PLAN_FITS

    @property
    def smallest_bytes(self) -> int | None:
        """The smallest budget that works, where the one in force does not."""
        smallest = self.refusal.details.get("smallest_bytes") if self.refusal is not None else None
        return None if smallest is None else int(smallest)

    @property
    def budget_bytes(self) -> int | None:
        """The budget that was set, else the one that the engine chose; None before it has."""
        if self.values.budget_bytes is not None:
            return self.values.budget_bytes
        return None if self.outlook is None else self.outlook.planned.budget_bytes

    def settings(self) -> DecodeSettings:
        """What goes into a command: of the values those that belong to the chosen way."""
        values, choice = self.values, self.choice
        if choice is not DecodeChoice.STRIPS:
            values = replace(values, strip_rows=None, chunk_latents=None)
        return values if choice is DecodeChoice.REFERENCE else replace(values, tiling=DecodeSettings().tiling)

    def change(self, values: DecodeSettings) -> None:
        """Take new values; silent when nothing differs, so that views may echo what they show."""
        if values != self.values:
            self.values = values
            self.settings_changed.emit()

    def choose(self, choice: DecodeChoice) -> None:
        """Another way to decode; strips are taken one by one at first, which needs the least memory."""
        if choice is not self.choice:
            self.change(replace(self.values, mode=MODES[choice]))

    @Slot(object)
    def set_budget(self, budget_bytes: int | None) -> None:
        """The most live bytes that a decode may take; None leaves it to the engine."""
        self.change(replace(self.values, budget_bytes=budget_bytes))

    def set_standing(self, standing: EngineStanding) -> None:
        """The engine was loaded, or could not be."""
        self.standing = standing
        self.outlook_changed.emit()

    def expect(self, request: PlanDecode) -> None:
        """A plan was asked for; what is known stays on show unless it is of another clip or another way."""
        if self.wanted is None or _without_budget(request) != _without_budget(self.wanted):
            self.outlook = self.refusal = None
        self.wanted = request
        self.outlook_changed.emit()

    def forget(self) -> None:
        """There is nothing that could be planned."""
        self.wanted = self.outlook = self.refusal = None
        self.outlook_changed.emit()

    @Slot(object, object)
    def take_outlook(self, request: PlanDecode, outlook: DecodeOutlook) -> None:
        """The engine has a plan. An answer to an earlier question is left alone."""
        if request == self.wanted:
            self.outlook, self.refusal, self.ground_bytes = outlook, None, outlook.ground_bytes
            self.outlook_changed.emit()

    @Slot(object, object)
    def take_refusal(self, request: PlanDecode, refusal: EngineError) -> None:
        """The engine has no plan."""
        if request == self.wanted:
            self.outlook, self.refusal = None, refusal
            self.outlook_changed.emit()


def _without_budget(request: PlanDecode) -> PlanDecode:
    return replace(request, decode=replace(request.decode, budget_bytes=None))
