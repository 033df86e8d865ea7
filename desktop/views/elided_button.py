"""A button whose words give way to its neighbours; UI thread."""

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QPushButton

PADDING = 26  # of a button, both sides and its border


class ElidedButton(QPushButton):
    """Shows as much of its words as fits."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = ""

    def show_text(self, text: str) -> None:
        """Show `text`."""
        self._whole = text
        self.setToolTip(text)
        self._elide()

    def _elide(self) -> None:
        room = self.width() - PADDING
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, room))

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:
        return QSize(120, super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._elide()
