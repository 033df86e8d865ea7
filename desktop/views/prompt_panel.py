"""The side panel: words, settings, and the one button that matters; UI thread."""

from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSlider,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop.failure_words import problem_text
from desktop.icons import icon
from desktop.start_words import missing_start_text
from desktop.state.job import JobState, Phase
from desktop.state.library import Library
from desktop.state.prompt import PromptState
from desktop.state.thumbnails import Thumbnails
from desktop.theme import Colours
from desktop.views.decode_panel import DecodePanel
from desktop.views.model_button import ModelButton
from desktop.views.optimise_button import OptimiseButton
from desktop.views.page import heading
from desktop.views.start_panel import StartPanel
from desktop.views.text_field import TextField
from desktop.views.video_fields import VideoFields
from desktop.views.wheel_guard import WheelGuard
from desktop.views.wrapped_label import WrappedLabel

PANEL_WIDTH = 344


class PromptPanel(QFrame):
    """Shows `PromptState` and writes what the person edits back into it."""

    generate_requested = Signal()
    cancel_requested = Signal()

    def __init__(
        self, state: PromptState, job: JobState, library: Library, thumbnails: Thumbnails, colours: Colours
    ) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setFixedWidth(PANEL_WIDTH)
        self._state, self._colours = state, colours
        self.model = ModelButton(library)
        self.optimise = OptimiseButton(state)
        self.start = StartPanel(state, thumbnails, colours)
        self.video = VideoFields(state)
        self.decode_panel = DecodePanel(state.decode, state.outlook, job, colours)
        self._make_fields()
        self._lay_out()
        self._guard_from_wheel()
        self._connect()
        self.show_values()

    def _make_fields(self) -> None:
        self._prompt = TextField("prompt", self.tr("What should happen? For example: a red ball bouncing…"), 84)
        self._prompt.setAccessibleName(self.tr("Prompt"))
        self._negative = TextField("negative", self.tr("What should not be in the picture (optional)"), 56)
        self._negative.setAccessibleName(self.tr("Negative prompt"))
        self._problem = WrappedLabel()
        self._problem.setObjectName("problem")
        self._problem.setProperty("role", "problem")
        self._missing = WrappedLabel()
        self._missing.setObjectName("missing")
        self._missing.setProperty("role", "small")
        self._generate = QPushButton(self.tr(" Generate"))
        self._generate.setObjectName("generate")
        self._generate.setIconSize(QSize(18, 18))
        self._cancel = QPushButton(self.tr(" Cancel"))
        self._cancel.setObjectName("cancel")
        self._cancel.setIconSize(QSize(18, 18))
        self._cancel.hide()
        self.menu_button = QToolButton()
        self.menu_button.setFixedSize(32, 32)
        self.menu_button.setIconSize(QSize(20, 20))
        self.menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu_button.setAccessibleName(self.tr("Menu"))

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 12, 0, 16)
        column.setSpacing(12)
        column.addLayout(self._header())
        column.addWidget(self._scrolling(), 1)
        foot = QVBoxLayout()
        foot.setContentsMargins(16, 0, 16, 0)
        foot.setSpacing(8)
        foot.addWidget(self._problem)
        foot.addWidget(self._missing)
        foot.addWidget(self._generate)
        foot.addWidget(self._cancel)
        column.addLayout(foot)

    def _header(self) -> QHBoxLayout:
        mark = QLabel()
        mark.setPixmap(icon("app").pixmap(QSize(24, 24), self.devicePixelRatioF()))
        name = QLabel("Tessera")
        name.setProperty("role", "brand")
        row = QHBoxLayout()
        row.setContentsMargins(16, 0, 12, 0)
        row.setSpacing(8)
        row.addWidget(mark)
        row.addWidget(name)
        row.addStretch(1)
        row.addWidget(self.menu_button)
        return row

    def _scrolling(self) -> QScrollArea:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(16, 0, 16, 4)
        column.setSpacing(8)
        column.addWidget(self.model)
        column.addWidget(self.optimise)
        column.addSpacing(4)
        column.addWidget(heading(self.tr("Prompt")))
        column.addWidget(self._prompt, 3)
        column.addSpacing(4)
        column.addWidget(heading(self.tr("Negative prompt")))
        column.addWidget(self._negative, 1)
        column.addSpacing(4)
        column.addWidget(heading(self.tr("Video")))
        for widget in (self.start, self.video, self.decode_panel):
            column.addWidget(widget)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(content)
        self.decode_panel.opened.connect(self._scroll_to_decoding, Qt.ConnectionType.QueuedConnection)
        self._area = area
        return area

    def _guard_from_wheel(self) -> None:
        guard = WheelGuard(self)
        for kind in (QAbstractSpinBox, QSlider, QComboBox):
            for widget in self.findChildren(kind):
                guard.watch(widget)

    def _connect(self) -> None:
        self._prompt.textChanged.connect(self._take_words)
        self._negative.textChanged.connect(self._take_words)
        self._state.values_changed.connect(self.show_values)
        self._state.model_changed.connect(self.show_values)
        self._state.start.changed.connect(self._show_problem)
        self._state.optimise.changed.connect(self._show_problem)
        self._state.outlook.changed.connect(self._show_problem)
        self._generate.clicked.connect(self.generate_requested)
        self._cancel.clicked.connect(self.cancel_requested)

    @Slot()
    def show_values(self) -> None:
        """Show the state; what is shown already stays untouched, so that a cursor does not jump."""
        values = self._state.values
        self._prompt.show_text(values.prompt)
        self._negative.show_text(values.negative_prompt)
        self._show_problem()

    @Slot(object)
    def show_phase(self, phase: Phase) -> None:
        """Offer Generate when nothing runs, else Cancel."""
        busy = phase in (Phase.WAITING, Phase.RUNNING, Phase.CANCELLING)
        self._generate.setVisible(not busy)
        self._cancel.setVisible(busy)
        self._cancel.setEnabled(phase is not Phase.CANCELLING)
        self._cancel.setText(self.tr(" Stopping…") if phase is Phase.CANCELLING else self.tr(" Cancel"))

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self._show_problem()
        self._cancel.setIcon(icon("stop", colours.text))
        self.menu_button.setIcon(icon("more", colours.text_dim))
        self.start.paint_in(colours)
        self.video.paint_in(colours)
        self.decode_panel.paint_in(colours)

    def focus_prompt(self) -> None:
        """Put the cursor into the prompt, behind what is written."""
        self._prompt.setFocus()
        self._prompt.moveCursor(self._prompt.textCursor().MoveOperation.End)

    @Slot()
    def take_typed(self) -> None:
        """Take a number that is still being typed, as leaving its field would."""
        field = self.focusWidget()
        if isinstance(field, QAbstractSpinBox):
            field.interpretText()

    @Slot()
    def _scroll_to_decoding(self) -> None:
        """Queued, for the column is laid out anew only after the panel was opened."""
        self._area.ensureWidgetVisible(self.decode_panel)

    @Slot()
    def _show_problem(self) -> None:
        problem = self._state.refusal()
        missing = missing_start_text(self._state.start.missing)
        if problem is not None:
            self._problem.show_text(problem_text(problem))
        self._problem.setVisible(problem is not None)
        self._missing.show_text(missing)
        self._missing.setVisible(bool(missing) and problem is None)
        ready = self._state.can_generate
        self._generate.setEnabled(ready)
        self._generate.setIcon(icon("generate", self._colours.on_accent if ready else self._colours.text_faint))

    @Slot()
    def _take_words(self) -> None:
        prompt, negative = self._prompt.toPlainText(), self._negative.toPlainText()
        self._state.change(replace(self._state.values, prompt=prompt, negative_prompt=negative))
