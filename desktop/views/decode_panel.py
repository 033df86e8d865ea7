"""How videos are decoded: the method that was chosen, the plan that it leads to, and what it took; UI thread."""

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from desktop.decode_words import (
    choice_name,
    choice_title,
    measured_text,
    no_question_text,
    plan_details_text,
    plan_text,
    recut_text,
    waiting_text,
)
from desktop.failure_words import problem_text
from desktop.icons import icon
from desktop.state.decode import DecodeChoice, DecodeState
from desktop.state.job import JobState
from desktop.state.outlook import EngineStanding, OutlookState
from desktop.theme import Colours
from desktop.views.decode_budget import DecodeBudget
from desktop.views.decode_fields import StripFields, TileFields, field_row
from desktop.views.wrapped_label import WrappedLabel
from engine.commands import DecodeLatents, GenerateVideo
from engine.events import DecodePlanned, Stage


class DecodePanel(QFrame):
    """One line until it is opened. While a job runs it tells that job's plan; what is set then holds for the next."""

    opened = Signal()

    def __init__(self, state: DecodeState, outlook: OutlookState, job: JobState, colours: Colours) -> None:
        super().__init__()
        self._state, self._outlook, self._job, self._colours = state, outlook, job, colours
        self._title, self._alarm = QToolButton(), QLabel()
        self._choice = QComboBox()
        self._strips, self._tiles, self._budget = StripFields(), TileFields(), DecodeBudget(state)
        self._plan, self._problem, self._outcome = WrappedLabel(), WrappedLabel(), WrappedLabel()
        self._body = QWidget()
        self._set_up()
        self._lay_out()
        self._connect()
        self._show_settings()
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self._show_chevron()

    def _set_up(self) -> None:
        self._title.setObjectName("decodeTitle")
        self._title.setCheckable(True)
        self._title.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self._title.setIconSize(QSize(16, 16))
        self._title.setFixedHeight(28)
        self._choice.setAccessibleName(self.tr("How to decode"))
        for choice in DecodeChoice:
            self._choice.addItem(choice_name(choice), choice)
        for label in (self._plan, self._outcome):
            label.setProperty("role", "small")
        self._plan.setObjectName("decodePlan")
        self._outcome.setObjectName("decodeOutcome")
        self._outcome.setToolTip(self.tr("On a card the tensors are measured, on a processor the whole program."))
        self._problem.setObjectName("decodeProblem")
        self._alarm.setProperty("role", "problem")
        self._problem.setProperty("role", "problem")
        self._body.hide()

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self._title)
        head.addStretch(1)
        head.addWidget(self._alarm)
        body = QVBoxLayout(self._body)
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(8)
        body.addLayout(field_row(self.tr("Method"), self._choice))
        body.addLayout(field_row(self.tr("Memory"), self._budget))
        for widget in (self._strips, self._tiles, self._plan, self._problem, self._outcome):
            body.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(head)
        column.addWidget(self._body)

    def _connect(self) -> None:
        self._title.toggled.connect(self._set_open)
        self._choice.activated.connect(self._take_choice)
        self._strips.settings_edited.connect(self._state.change)
        self._tiles.settings_edited.connect(self._state.change)
        self._state.settings_changed.connect(self._show_settings)
        self._outlook.changed.connect(self.refresh)
        self._job.phase_changed.connect(self.refresh)
        self._job.progress_changed.connect(self.refresh)

    @Slot()
    def refresh(self) -> None:
        """Show the plan of the running job, or the one that the settings lead to."""
        self._show_plan()
        self._show_problem()
        self._show_outcome()

    def _show_plan(self) -> None:
        planned, decode = self._planned(), self._state.values
        command = self._job.command if self._job.is_busy else None
        if isinstance(command, GenerateVideo | DecodeLatents):
            decode = command.decode
        self._plan.setToolTip("" if planned is None else plan_details_text(planned))
        self._plan.show_text(self._why_not() if planned is None else plan_text(planned, decode))

    def _planned(self) -> DecodePlanned | None:
        if self._job.is_busy:
            return self._job.plan
        return None if self._outlook.outlook is None else self._outlook.outlook.decode

    def _why_not(self) -> str:
        is_stuck = self._outlook.wanted is None or self._outlook.is_invalid
        if self._outlook.standing is EngineStanding.READY and is_stuck:
            return no_question_text()
        return waiting_text(self._outlook.standing)

    def _show_problem(self) -> None:
        is_told = self._outlook.is_decode_refused and not self._job.is_busy
        refusal = self._outlook.refusal if is_told else None
        self._plan.setVisible(refusal is None)
        self._problem.setVisible(refusal is not None)
        self._alarm.setVisible(refusal is not None and not self._title.isChecked())
        if refusal is not None:
            self._problem.show_text(problem_text(refusal))
            self._alarm.setText(
                self.tr("Budget too small") if self._outlook.is_over_budget else self.tr("Not possible")
            )

    def _show_outcome(self) -> None:
        progress, recut = self._job.stages.get(Stage.DECODE), self._job.recut_rows
        lines = [] if recut is None else [recut_text(recut)]
        if progress is not None and progress.seconds is not None and progress.peak_bytes is not None:
            lines.append(measured_text(progress.peak_bytes, progress.predicted_bytes, progress.seconds))
        self._outcome.show_text("\n".join(lines))
        self._outcome.setVisible(bool(lines))

    @Slot()
    def _show_settings(self) -> None:
        choice = self._state.choice
        self._choice.setCurrentIndex(list(DecodeChoice).index(choice))
        self._title.setText(choice_title(choice))
        self._strips.show_settings(self._state.values)
        self._tiles.show_settings(self._state.values)
        self._strips.setVisible(choice is DecodeChoice.STRIPS)
        self._tiles.setVisible(choice is DecodeChoice.REFERENCE)

    def _show_chevron(self) -> None:
        self._title.setIcon(icon("opened" if self._title.isChecked() else "closed", self._colours.text_dim))

    @Slot(bool)
    def _set_open(self, is_open: bool) -> None:
        self._body.setVisible(is_open)
        self._show_chevron()
        self._show_problem()
        if is_open:
            self.opened.emit()

    @Slot(int)
    def _take_choice(self, index: int) -> None:
        self._state.choose(list(DecodeChoice)[index])
        self.opened.emit()  # its fields want room too
