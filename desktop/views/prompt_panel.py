"""The side panel: words, settings, and the one button that matters; UI thread."""

from dataclasses import replace

from PySide6.QtCore import QMimeData, QSize, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QSlider,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop.icons import icon
from desktop.state.job import JobState, Phase
from desktop.state.latents_files import local_files
from desktop.state.library import Library
from desktop.state.prompt import PromptState
from desktop.theme import Colours
from desktop.views.decode_panel import DecodePanel
from desktop.views.model_button import ModelButton
from desktop.views.number_field import number_field
from desktop.views.seed_row import SeedRow
from desktop.views.size_row import SizeRow
from desktop.views.slider_row import LABEL_WIDTH, SliderRow
from desktop.views.wheel_guard import WheelGuard
from desktop.words import failure_text

PANEL_WIDTH = 344
MOST_FRAMES = 161
LARGEST_BUDGET_MIB = 1 << 20


class PromptPanel(QFrame):
    """Shows `PromptState` and writes what the person edits back into it."""

    generate_requested = Signal()
    cancel_requested = Signal()

    def __init__(self, state: PromptState, job: JobState, library: Library, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setFixedWidth(PANEL_WIDTH)
        self._state, self._colours = state, colours
        self.decode_panel = DecodePanel(state.decode, job, colours)
        self.model = ModelButton(library)
        self._make_fields()
        self._lay_out()
        self._guard_from_wheel()
        self._connect()
        self.show_values()

    def _make_fields(self) -> None:
        defaults = self._state.defaults
        self._prompt = _TextField("prompt", self.tr("What should happen? For example: a red ball bouncing…"), 84)
        self._prompt.setAccessibleName(self.tr("Prompt"))
        self._negative = _TextField("negative", self.tr("What should not be in the picture (optional)"), 56)
        self._negative.setAccessibleName(self.tr("Negative prompt"))
        self._size = SizeRow(defaults.sizes, defaults.size_multiple)
        self._frames = SliderRow(self.tr("Frames"), 1, max(MOST_FRAMES, defaults.frames), 4)
        self._steps = SliderRow(self.tr("Steps"), 1, 100, 1)
        self._guidance = SliderRow(self.tr("Guidance"), 0, 15, 0.5, decimals=1)
        self._seed = SeedRow()
        self._budget = number_field(QSpinBox(), self.tr("Memory budget"))
        self._problem = QLabel()
        self._problem.setProperty("role", "problem")
        self._problem.setWordWrap(True)
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
        column.addSpacing(4)
        column.addWidget(_heading(self.tr("Prompt")))
        column.addWidget(self._prompt, 3)
        column.addSpacing(4)
        column.addWidget(_heading(self.tr("Negative prompt")))
        column.addWidget(self._negative, 1)
        column.addSpacing(4)
        column.addWidget(_heading(self.tr("Video")))
        for row in (self._size, self._frames, self._steps, self._guidance, self._seed, self._budget_row()):
            column.addWidget(row)
        column.addWidget(self.decode_panel)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(content)
        self.decode_panel.opened.connect(self._scroll_to_decoding, Qt.ConnectionType.QueuedConnection)
        self._area = area
        return area

    def _budget_row(self) -> QWidget:
        self._budget.setRange(0, LARGEST_BUDGET_MIB)
        self._budget.setSingleStep(256)
        self._budget.setSuffix(self.tr(" MB"))
        self._budget.setSpecialValueText(self.tr("Automatic"))
        self._budget.setToolTip(self.tr("The most memory that decoding may take. 0: as much as is free."))
        label = QLabel(self.tr("Memory"))
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        holder = QWidget()
        row = QHBoxLayout(holder)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(self._budget, 1)
        return holder

    def _guard_from_wheel(self) -> None:
        guard = WheelGuard(self)
        for kind in (QAbstractSpinBox, QSlider, QComboBox):
            for widget in self.findChildren(kind):
                guard.watch(widget)

    def _connect(self) -> None:
        self._prompt.textChanged.connect(self._take_words)
        self._negative.textChanged.connect(self._take_words)
        self._size.size_edited.connect(self._take_size)
        self._frames.value_edited.connect(self._take_frames)
        self._steps.value_edited.connect(self._take_steps)
        self._guidance.value_edited.connect(self._take_guidance)
        self._seed.seed_edited.connect(self._take_seed)
        self._seed.reroll_requested.connect(self._state.reroll_seed)
        self._budget.valueChanged.connect(self._take_budget)
        self._state.values_changed.connect(self.show_values)
        self._state.model_changed.connect(self._show_model)
        self._state.decode.settings_changed.connect(self._show_budget)
        self._state.decode.outlook_changed.connect(self._show_problem)
        self._generate.clicked.connect(self.generate_requested)
        self._cancel.clicked.connect(self.cancel_requested)

    @Slot()
    def show_values(self) -> None:
        """Show the state; what is shown already stays untouched, so that a cursor does not jump."""
        values = self._state.values
        self._prompt.show_text(values.prompt)
        self._negative.show_text(values.negative_prompt)
        self._size.show_size(values.width, values.height)
        self._frames.show_value(values.frames)
        self._frames.set_hint(self.tr("{seconds} seconds of video").format(seconds=f"{self._state.seconds:.1f}"))
        self._steps.show_value(values.steps)
        self._guidance.show_value(values.guidance)
        self._seed.show_seed(values.seed)
        self._show_budget()
        self._show_problem()

    @Slot()
    def _show_model(self) -> None:
        """Offer the sizes of the model in use."""
        self._size.show_sizes(self._state.defaults.sizes, self._state.defaults.size_multiple)
        self.show_values()

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
        self._seed.paint_in(colours)
        self.decode_panel.paint_in(colours)

    def focus_prompt(self) -> None:
        """Put the cursor into the prompt, behind what is written."""
        self._prompt.setFocus()
        self._prompt.moveCursor(self._prompt.textCursor().MoveOperation.End)

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
    def _show_budget(self) -> None:
        self._budget.blockSignals(True)  # it shows whole megabytes, which must not become the budget by being shown
        self._budget.setValue((self._state.decode.values.budget_bytes or 0) >> 20)
        self._budget.blockSignals(False)

    @Slot()
    def _show_problem(self) -> None:
        problem = self._state.problem()
        if problem is not None:
            text = failure_text(problem.code, problem.details, None)
            self._problem.setText(f"{text.title} {text.advice}")
        self._problem.setVisible(problem is not None)
        is_possible = problem is None and self._state.is_model_ready and not self._state.decode.is_invalid
        ready = is_possible and self._state.has_prompt
        self._generate.setEnabled(ready)
        self._generate.setIcon(icon("generate", self._colours.on_accent if ready else self._colours.text_faint))

    @Slot()
    def _take_words(self) -> None:
        prompt, negative = self._prompt.toPlainText(), self._negative.toPlainText()
        self._state.change(replace(self._state.values, prompt=prompt, negative_prompt=negative))

    @Slot(int, int)
    def _take_size(self, width: int, height: int) -> None:
        self._state.change(replace(self._state.values, width=width, height=height))

    @Slot(float)
    def _take_frames(self, frames: float) -> None:
        self._state.change(replace(self._state.values, frames=int(frames)))

    @Slot(float)
    def _take_steps(self, steps: float) -> None:
        self._state.change(replace(self._state.values, steps=int(steps)))

    @Slot(float)
    def _take_guidance(self, guidance: float) -> None:
        self._state.change(replace(self._state.values, guidance=guidance))

    @Slot(object)
    def _take_seed(self, seed: int) -> None:
        self._state.change(replace(self._state.values, seed=seed))

    @Slot(int)
    def _take_budget(self, budget_mib: int) -> None:
        self._state.decode.set_budget(budget_mib << 20 or None)


class _TextField(QPlainTextEdit):
    """Plain text in which Tab moves on, as it does everywhere else in the panel."""

    def __init__(self, name: str, placeholder: str, lowest: int) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        self.setMinimumHeight(lowest)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_text(self, text: str) -> None:
        """Show `text` unless it is there already."""
        if self.toPlainText() != text:
            self.setPlainText(text)

    def sizeHint(self) -> QSize:
        return QSize(200, 56)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        # A file dropped here is meant for the window, which opens it; its path would be no prompt.
        return not local_files(source) and super().canInsertFromMimeData(source)


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setProperty("role", "heading")
    return label
