"""Asks the engine for a plan whenever what it depends on has changed; UI thread."""

from PySide6.QtCore import QObject, QTimer, Slot

from desktop.bridge import EngineBridge
from desktop.state.decode import EngineStanding
from desktop.state.job import JobState
from desktop.state.prompt import PromptState
from engine.commands import PlanDecode

FRAME_MS = 16  # a line that is dragged is planned at the rate of the screen
SETTLE_MS = 250  # another clip costs some tenths of a second to plan: first let the person finish


class DecodePlanner(QObject):
    """Keeps `DecodeState` in step with the settings. Nothing is asked while a job runs, but as soon as it has ended."""

    def __init__(self, prompt: PromptState, job: JobState, bridge: EngineBridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._prompt, self._decode, self._job, self._bridge = prompt, prompt.decode, job, bridge
        self._may_ask = True
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._ask)
        prompt.values_changed.connect(self._ask_when_settled)
        prompt.model_changed.connect(self._ask_when_settled)
        prompt.decode.settings_changed.connect(self._ask_soon)
        job.phase_changed.connect(self._take_phase)
        bridge.plan_made.connect(prompt.decode.take_outlook)
        bridge.plan_refused.connect(prompt.decode.take_refusal)

    @Slot()
    def start(self) -> None:
        """The engine is there."""
        self._decode.set_standing(EngineStanding.READY)
        self._ask()

    @Slot()
    def give_up(self) -> None:
        """There will be no engine."""
        self._decode.set_standing(EngineStanding.BROKEN)

    def stop(self) -> None:
        """Ask no more, whatever still happens while the program ends."""
        self._may_ask = False
        self._timer.stop()

    @Slot()
    def _ask_when_settled(self) -> None:
        if self._may_ask and self._request() != self._decode.wanted:
            self._timer.start(SETTLE_MS)

    @Slot()
    def _ask_soon(self) -> None:
        # Not begun anew by every move, or a line that is never at rest would never be planned.
        if self._may_ask and not self._timer.isActive():
            self._timer.start(FRAME_MS)

    @Slot()
    def _take_phase(self) -> None:
        if not self._job.is_busy:
            self._ask_soon()  # also when nothing was changed: the memory that is free may be another

    @Slot()
    def _ask(self) -> None:
        if self._decode.standing is not EngineStanding.READY or self._job.is_busy:
            return
        request = self._request()
        if request is None:
            self._decode.forget()
            return
        self._decode.expect(request)
        self._bridge.plan(request)

    def _request(self) -> PlanDecode | None:
        """The question that the panels put, or None while it has no answer."""
        if self._prompt.problem() is not None or not self._prompt.is_model_ready:
            return None
        values, use = self._prompt.values, self._prompt.use
        settings = self._decode.settings()
        return PlanDecode(use.model, values.width, values.height, values.frames, settings, use.parts)
