"""A message across the window: a heading, a line of advice, buttons beside them or below; UI thread."""

from collections.abc import Iterable

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QBoxLayout, QFrame, QHBoxLayout, QVBoxLayout, QWidget

from desktop.failure_words import FailureText
from desktop.views.wrapped_label import WrappedLabel

ROOM_BESIDE = 640  # width below which the buttons go under the words


class MessageBar(QFrame):
    """Hidden until there is something to say; `body` is to be put into a layout of the bar's own."""

    visibility_changed = Signal()

    def __init__(self, name: str, buttons: Iterable[QWidget]) -> None:
        super().__init__()
        self.setObjectName(name)
        self._title, self._advice = WrappedLabel(), WrappedLabel()
        self._title.setProperty("role", "heading")
        self._advice.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.body = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._lay_out_body(buttons)
        self.hide()

    def say(self, text: FailureText) -> None:
        """Take the words; showing the bar is another matter."""
        self._title.show_text(text.title)
        self._advice.show_text(text.advice)

    def _lay_out_body(self, buttons: Iterable[QWidget]) -> None:
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self._title)
        words.addWidget(self._advice, 1)
        row = QHBoxLayout()
        row.setSpacing(12)
        for button in buttons:
            row.addWidget(button)
        self.body.setSpacing(12)
        self.body.addLayout(words, 1)
        self.body.addLayout(row)
        self.body.setAlignment(row, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.visibility_changed.emit()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.visibility_changed.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        is_wide = event.size().width() >= ROOM_BESIDE
        self.body.setDirection(QBoxLayout.Direction.LeftToRight if is_wide else QBoxLayout.Direction.TopToBottom)
