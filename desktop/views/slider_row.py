"""A number that can be dragged or typed: label, slider and field in one row; UI thread."""

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QLabel, QSlider, QWidget

from desktop.views.number_field import number_field

LABEL_WIDTH = 76
FIELD_WIDTH = 72


class SliderRow(QWidget):
    """Values are `minimum` + n * `step`; what is typed between two of them snaps to the nearer one."""

    value_edited = Signal(float)

    def __init__(self, label: str, minimum: float, maximum: float, step: float, decimals: int = 0) -> None:
        super().__init__()
        self._minimum, self._step = minimum, step
        self._slider = QSlider(Qt.Orientation.Horizontal)
        self._slider.setRange(0, round((maximum - minimum) / step))
        self._slider.setAccessibleName(label)
        self._field = _field(label, minimum, maximum, step, decimals)
        self._lay_out(label)
        self._slider.valueChanged.connect(self._take_slider)
        self._field.valueChanged.connect(self._take_field)

    def show_value(self, value: float) -> None:
        """Show `value` without announcing it."""
        for widget in (self._slider, self._field):
            widget.blockSignals(True)
        self._slider.setValue(self._index(value))
        self._field.setValue(value)
        for widget in (self._slider, self._field):
            widget.blockSignals(False)

    def set_hint(self, text: str) -> None:
        """What the value amounts to, shown when the pointer rests on the row."""
        self.setToolTip(text)

    def _lay_out(self, text: str) -> None:
        label = QLabel(text)
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(self._slider, 1)
        row.addWidget(self._field)

    def _index(self, value: float) -> int:
        return round((value - self._minimum) / self._step)

    @Slot(int)
    def _take_slider(self, index: int) -> None:
        self._announce(self._minimum + index * self._step)

    @Slot(float)
    def _take_field(self, value: float) -> None:
        self._announce(self._minimum + self._index(value) * self._step)

    def _announce(self, value: float) -> None:
        self.show_value(value)
        self.value_edited.emit(value)


def _field(label: str, minimum: float, maximum: float, step: float, decimals: int) -> QDoubleSpinBox:
    field = number_field(QDoubleSpinBox(), label)
    field.setDecimals(decimals)
    field.setRange(minimum, maximum)
    field.setSingleStep(step)
    field.setFixedWidth(FIELD_WIDTH)
    field.setAlignment(Qt.AlignmentFlag.AlignRight)
    return field
