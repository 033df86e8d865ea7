"""The size of the picture: the sizes the model was trained on, or any other; UI thread."""

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from desktop.views.number_field import number_field
from desktop.views.slider_row import LABEL_WIDTH

Size = tuple[int, int]
LARGEST_SIDE = 4096


class SizeRow(QWidget):
    """A list of sizes whose last entry opens two fields. What is typed is not corrected: the panel says what fits."""

    size_edited = Signal(int, int)

    def __init__(self, sizes: tuple[Size, ...], multiple: int) -> None:
        super().__init__()
        self._sizes = sizes
        self._choice = QComboBox()
        self._choice.setAccessibleName(self.tr("Size"))
        self._choice.addItems([self._name(size) for size in sizes])
        self._choice.addItem(self.tr("Other size…"))
        self._width = _side(multiple, self.tr("Width"))
        self._height = _side(multiple, self.tr("Height"))
        self._own = QWidget()
        self._lay_out()
        self._choice.activated.connect(self._take_choice)
        self._width.valueChanged.connect(self._take_sides)
        self._height.valueChanged.connect(self._take_sides)

    def show_sizes(self, sizes: tuple[Size, ...], multiple: int) -> None:
        """Offer the sizes of another model; a size of one's own goes with the model that it was typed for."""
        if sizes != self._sizes:
            self._sizes = sizes
            self._choice.clear()
            self._choice.addItems([self._name(size) for size in sizes])
            self._choice.addItem(self.tr("Other size…"))
            self._own.hide()
        for side in (self._width, self._height):
            side.blockSignals(True)
            side.setMinimum(multiple)
            side.setSingleStep(multiple)
            side.blockSignals(False)

    def show_size(self, width: int, height: int) -> None:
        """Show this size without announcing it; a size of one's own stays open while it is typed."""
        for side, value in ((self._width, width), (self._height, height)):
            side.blockSignals(True)
            side.setValue(value)
            side.blockSignals(False)
        if (width, height) not in self._sizes:
            self._open_own(True)
        elif self._own.isHidden():
            self._choice.setCurrentIndex(self._sizes.index((width, height)))

    def _lay_out(self) -> None:
        label = QLabel(self.tr("Size"))
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        times = QLabel("×")
        times.setProperty("role", "label")
        own = QHBoxLayout(self._own)
        own.setContentsMargins(LABEL_WIDTH + 8, 0, 0, 0)
        own.setSpacing(8)
        own.addWidget(self._width, 1)
        own.addWidget(times)
        own.addWidget(self._height, 1)
        self._own.hide()
        first = QHBoxLayout()
        first.setSpacing(8)
        first.addWidget(label)
        first.addWidget(self._choice, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(first)
        column.addWidget(self._own)

    def _name(self, size: Size) -> str:
        width, height = size
        shape = self.tr("square") if width == height else self.tr("wide") if width > height else self.tr("tall")
        return f"{width} × {height}  {shape}"

    def _open_own(self, opened: bool) -> None:
        self._own.setVisible(opened)
        if opened:
            self._choice.setCurrentIndex(len(self._sizes))

    @Slot(int)
    def _take_choice(self, index: int) -> None:
        own = index == len(self._sizes)
        self._open_own(own)
        if not own:
            self.size_edited.emit(*self._sizes[index])

    @Slot()
    def _take_sides(self) -> None:
        self.size_edited.emit(self._width.value(), self._height.value())


def _side(multiple: int, name: str) -> QSpinBox:
    side = number_field(QSpinBox(), name)
    side.setRange(multiple, LARGEST_SIDE)
    side.setSingleStep(multiple)
    return side
