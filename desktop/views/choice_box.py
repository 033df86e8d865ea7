"""A list to choose from whose entries may change while it is open; UI thread."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QPaintEvent, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QStyle, QStyleOptionComboBox, QStylePainter

INSET = 4  # that the style leaves beside the words
SHORTEST = 10  # letters that the closed list must show


@dataclass(frozen=True, slots=True)
class Option:
    """One entry: its words, what it stands for, and what is told when the pointer rests on it.

    One that is not `is_possible` is shown, so that its hint may say why, and cannot be chosen.
    """

    text: str
    value: object
    hint: str = ""
    is_possible: bool = True


class ChoiceBox(QComboBox):
    """Gives way to its neighbours. What is shown is never announced; `option_chosen` comes from the person only."""

    option_chosen = Signal(object)
    _popup_closed = Signal()

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(SHORTEST)
        self.view().setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self._options: list[Option] = []
        self._next: tuple[list[Option], object] | None = None
        self.activated.connect(self._announce)
        # Queued: the entry that was chosen is announced first.
        self._popup_closed.connect(self._show_next, Qt.ConnectionType.QueuedConnection)

    @property
    def options(self) -> list[Option]:
        """What there is to choose from."""
        return self._options

    def show_options(self, options: Sequence[Option], current: object) -> None:
        """Show these entries, and the one for `current` chosen; an open list is left alone until it is closed."""
        self._next = (list(options), current)
        if not self.view().isVisible():
            self._show_next()

    @Slot()
    def _show_next(self) -> None:
        if self._next is None:
            return
        (options, current), self._next = self._next, None
        if options != self._options:
            self._options = options
            self.clear()
            for i, option in enumerate(options):
                self.addItem(option.text)
                self.setItemData(i, option.hint or option.text, Qt.ItemDataRole.ToolTipRole)
                self._set_possible(i, option.is_possible)
        index = next((i for i, option in enumerate(options) if option.value == current), -1)
        self.setCurrentIndex(index)
        self.setToolTip(options[index].hint if index >= 0 else "")

    def _set_possible(self, index: int, is_possible: bool) -> None:
        model = self.model()
        assert isinstance(model, QStandardItemModel)  # the one that every combo box makes for itself
        model.item(index).setEnabled(is_possible)

    @Slot(int)
    def _announce(self, index: int) -> None:
        self.option_chosen.emit(self._options[index].value)

    def paintEvent(self, event: QPaintEvent) -> None:
        """As a combo box paints itself, but with an ellipsis instead of half a letter."""
        painter, option = QStylePainter(self), QStyleOptionComboBox()
        self.initStyleOption(option)
        field = self.style().subControlRect(
            QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
        )
        words = self.currentText() or self.placeholderText()
        option.currentText = self.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, field.width() - INSET)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def hidePopup(self) -> None:
        super().hidePopup()
        self._popup_closed.emit()
