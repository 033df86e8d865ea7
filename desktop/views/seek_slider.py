"""A slider that goes where it is pressed, for scrubbing; UI thread."""

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QSlider, QStyle, QStyleOptionSlider


class SeekSlider(QSlider):
    """A press takes the handle there, and dragging goes on from that place; Qt's own would move by a page."""

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)

    def value_at(self, x: float) -> int:
        """The value whose handle has its middle nearest to `x`."""
        groove = self._part_rect(QStyle.SubControl.SC_SliderGroove)
        handle = self._part_rect(QStyle.SubControl.SC_SliderHandle).width()
        left = round(x - groove.left() - handle / 2)
        return QStyle.sliderValueFromPosition(self.minimum(), self.maximum(), left, groove.width() - handle)

    def _part_rect(self, part: QStyle.SubControl) -> QRect:
        option = QStyleOptionSlider()
        self.initStyleOption(option)
        return self.style().subControlRect(QStyle.ComplexControl.CC_Slider, option, part, self)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is not Qt.MouseButton.LeftButton:
            super().mousePressEvent(event)
            return
        self.setSliderDown(True)
        self.setSliderPosition(self.value_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isSliderDown():
            self.setSliderPosition(self.value_at(event.position().x()))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self.setSliderDown(False)
        else:
            super().mouseReleaseEvent(event)
