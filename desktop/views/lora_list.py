"""The LoRAs in use with their strengths, and a menu of those that may be added; UI thread."""

from dataclasses import replace

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QMenu, QPushButton, QToolButton, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.library_words import lora_problem_text
from desktop.model_words import display_name, expert_text
from desktop.state.library import Library
from desktop.state.matching import has_experts
from desktop.theme import Colours
from desktop.views.choice_box import ChoiceBox, Option
from desktop.views.elided_label import ElidedLabel
from desktop.views.number_field import number_field
from desktop.views.wheel_guard import WheelGuard
from engine.model_choice import LoraUse
from engine.weights.provenance import Expert

LARGEST_STRENGTH = 4.0
STRENGTH_WIDTH = 64
EXPERT_WIDTH = 116


class LoraList(QWidget):
    """One row a LoRA. Rows stay while their LoRAs stay, so that a number can be typed in peace."""

    rows_changed = Signal()

    def __init__(self, library: Library, colours: Colours) -> None:
        super().__init__()
        self._library, self._colours = library, colours
        self._rows: list[_LoraRow] = []
        self._guard = WheelGuard(self)
        self._none = QLabel()
        self._none.setProperty("role", "small")
        self._none.setWordWrap(True)
        self._menu = QMenu(self)
        self._add = QPushButton(self.tr("Add LoRA…"))
        self._add.setObjectName("addLora")
        self._add.setMenu(self._menu)
        self._lay_out()
        self._menu.triggered.connect(self._take_addition)
        library.changed.connect(self.refresh)
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        for row in self._rows:
            row.paint_in(colours)

    @property
    def stops(self) -> list[QWidget]:
        """What the Tab key goes to, in order."""
        return [*(stop for row in self._rows for stop in row.stops), self._add]

    def _lay_out(self) -> None:
        self._list = QVBoxLayout()
        self._list.setSpacing(4)
        foot = QHBoxLayout()
        foot.setSpacing(12)
        foot.addWidget(self._add)
        foot.addWidget(self._none, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(self._list)
        column.addLayout(foot)

    @Slot()
    def refresh(self) -> None:
        """Show the LoRAs in use and those that may be added."""
        uses, model = self._library.choice.loras, self._library.chosen
        has_two = model is not None and has_experts(model)
        if [row.use.path for row in self._rows] != [use.path for use in uses]:
            self._make_rows(uses)
        for row, use in zip(self._rows, uses, strict=True):
            row.show_use(use, has_two, lora_problem_text(self._library, use.path))
        self._fill_menu()

    def _fill_menu(self) -> None:
        loras = self._library.loras()
        if [action.data() for action in self._menu.actions()] != [str(lora.path) for lora in loras]:
            self._menu.clear()
            for lora in loras:
                action = self._menu.addAction(display_name(lora.path))
                action.setData(str(lora.path))
                action.setToolTip(str(lora.path))
        self._add.setEnabled(bool(loras))
        none = self.tr("All that fit this model are in use.") if self._rows else self.tr("None was found that fits.")
        self._none.setText("" if loras else none)

    def _make_rows(self, uses: tuple[LoraUse, ...]) -> None:
        for row in self._rows:
            row.hide()
            row.deleteLater()
        self._rows = [_LoraRow(use, self._guard) for use in uses]
        for row in self._rows:
            row.use_edited.connect(self._library.change_lora)
            row.removal_requested.connect(self._library.remove_lora)
            row.paint_in(self._colours)
            self._list.addWidget(row)
        self.rows_changed.emit()

    @Slot(QAction)
    def _take_addition(self, action: QAction) -> None:
        lora = next((lora for lora in self._library.loras() if str(lora.path) == action.data()), None)
        if lora is not None:
            self._library.add_lora(lora.path)


class _LoraRow(QWidget):
    """Name, expert where there are two, strength, and a button that takes it out."""

    use_edited = Signal(object)  # LoraUse
    removal_requested = Signal(object)  # Path

    def __init__(self, use: LoraUse, guard: WheelGuard) -> None:
        super().__init__()
        self.use = use
        name = display_name(use.path)
        self._name, self._problem = ElidedLabel(), QLabel()
        self._name.show_text(name)
        self._name.setToolTip(str(use.path))
        self._problem.setProperty("role", "problem")
        self._expert = ChoiceBox(self.tr("Expert for {name}").format(name=name))
        self._expert.setFixedWidth(EXPERT_WIDTH)
        self._strength = number_field(QDoubleSpinBox(), self.tr("Strength of {name}").format(name=name))
        self._remove = QToolButton()
        self._remove.setAccessibleName(self.tr("Do without {name}").format(name=name))
        self._set_up()
        for widget in (self._expert, self._strength):
            guard.watch(widget)

    @property
    def stops(self) -> tuple[QWidget, ...]:
        """What the Tab key goes to, in order."""
        return self._expert, self._strength, self._remove

    def _set_up(self) -> None:
        self._strength.setRange(-LARGEST_STRENGTH, LARGEST_STRENGTH)
        self._strength.setSingleStep(0.05)
        self._strength.setFixedWidth(STRENGTH_WIDTH)
        self._strength.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._strength.setToolTip(self.tr("Strength: 1 as it was made, 0 nothing, below 0 the opposite"))
        self._strength.lineEdit().setAcceptDrops(False)
        self._remove.setFixedSize(28, 28)
        self._remove.setIconSize(QSize(16, 16))
        self._strength.valueChanged.connect(self._take_strength)
        self._expert.option_chosen.connect(self._take_expert)
        self._remove.clicked.connect(self._ask_removal)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self._name, 1)
        for widget in (self._problem, self._expert, self._strength, self._remove):
            row.addWidget(widget)

    def show_use(self, use: LoraUse, has_experts: bool, problem: str) -> None:
        """Show the strength without announcing it."""
        self.use = use
        self._strength.blockSignals(True)
        self._strength.setValue(use.strength)
        self._strength.blockSignals(False)
        experts: tuple[Expert | None, ...] = (None, *Expert)
        self._expert.show_options([Option(expert_text(expert), expert) for expert in experts], use.expert)
        self._expert.setVisible(has_experts)
        self._problem.setText(problem)
        self._problem.setVisible(bool(problem))

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._remove.setIcon(icon("close", colours.text_dim))

    @Slot(float)
    def _take_strength(self, strength: float) -> None:
        self.use_edited.emit(replace(self.use, strength=round(strength, 2)))

    @Slot(object)
    def _take_expert(self, expert: Expert | None) -> None:
        self.use_edited.emit(replace(self.use, expert=expert))

    @Slot()
    def _ask_removal(self) -> None:
        self.removal_requested.emit(self.use.path)
