"""Asks the engine for a plan whenever what it depends on has changed; UI thread."""

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Slot

from desktop.bridge import EngineBridge
from desktop.state.job import JobState
from desktop.state.outlook import EngineStanding
from desktop.state.prompt import PromptState
from engine.commands import PlanJob

FRAME_MS = 16  # a line that is dragged is planned at the rate of the screen
SETTLE_MS = 250  # another clip costs some tenths of a second to plan: first let the person finish


class JobPlanner(QObject):
    """Keeps `OutlookState` in step with the settings. While a job runs nothing is asked, which it is told."""

    def __init__(self, prompt: PromptState, job: JobState, bridge: EngineBridge, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._prompt, self._outlook, self._job, self._bridge = prompt, prompt.outlook, job, bridge
        self._may_ask = True
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._ask)
        prompt.values_changed.connect(self._ask_when_settled)
        prompt.model_changed.connect(self._ask_when_settled)
        prompt.start.changed.connect(self._ask_when_settled)
        prompt.decode.settings_changed.connect(self._ask_soon)
        prompt.optimise.changed.connect(self._ask_soon)
        job.phase_changed.connect(self._take_phase)
        bridge.plan_made.connect(prompt.outlook.take_outlook)
        bridge.plan_refused.connect(prompt.outlook.take_refusal)

    @Slot()
    def start(self) -> None:
        """The engine is there."""
        self._outlook.set_standing(EngineStanding.READY)
        self._ask()

    @Slot()
    def give_up(self) -> None:
        """There will be no engine."""
        self._outlook.set_standing(EngineStanding.BROKEN)

    def stop(self) -> None:
        """Ask no more, whatever still happens while the program ends."""
        self._may_ask = False
        self._timer.stop()

    @Slot()
    def _ask_when_settled(self) -> None:
        if self._may_ask and (self._outlook.is_put_off or self._request() != self._outlook.wanted):
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
        if self._outlook.standing is not EngineStanding.READY:
            return
        request = self._request()
        if self._job.is_busy:
            self._outlook.put_off(request)
            return
        if request is None:
            self._outlook.forget()
            return
        self._outlook.expect(request)
        self._bridge.plan(request)

    def _request(self) -> PlanJob | None:
        """The question that the panels put, or None while it has no answer.

        Words and seed do not move a plan, so that typing does not ask for a new one.
        """
        prompt = self._prompt
        if prompt.problem() is not None or not prompt.is_model_ready or prompt.start.missing:
            return None
        return PlanJob(replace(prompt.command(Path(), seed=0), prompt="", negative_prompt=""))
