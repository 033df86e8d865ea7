"""A failure in plain words, with the technical text behind a button; UI thread."""

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QGuiApplication, QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QToolButton,
    QVBoxLayout,
)

from desktop.icons import icon
from desktop.theme import Colours
from desktop.views.wrapped_label import WrappedLabel
from desktop.words import FailureText

ROOM_BESIDE = 640  # width below which the buttons go under the words
DETAILS_HEIGHTS = (40, 120)
FIRST_LINE_TOP = 6  # brings sign, first line and the button that closes to one height


class ErrorBar(QFrame):
    """Hidden until something fails."""

    decode_requested = Signal()
    visibility_changed = Signal()

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("errorBar")
        self._mark = QLabel()
        self._mark.setContentsMargins(0, FIRST_LINE_TOP - 2, 0, 0)
        self._title, self._advice = WrappedLabel(), WrappedLabel()
        self._title.setProperty("role", "heading")
        self._advice.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._details = QPlainTextEdit()
        self._details.setReadOnly(True)
        self._details.setMinimumHeight(DETAILS_HEIGHTS[0])
        self._details.setMaximumHeight(DETAILS_HEIGHTS[1])
        self._decode = QPushButton(self.tr("Decode again"))
        self._show_details = QPushButton()
        self._show_details.setProperty("role", "link")
        self._copy = QPushButton(self.tr("Copy"))
        self._copy.setProperty("role", "link")
        self._close = QToolButton()
        self._body = QBoxLayout(QBoxLayout.Direction.LeftToRight)
        self._lay_out()
        self._show_details.clicked.connect(self._toggle_details)
        self._copy.clicked.connect(self._copy_details)
        self._decode.clicked.connect(self.decode_requested)
        self._close.clicked.connect(self.hide)
        self.paint_in(colours)
        self.hide()

    def show_failure(self, text: FailureText, technical: str, can_decode: bool) -> None:
        """Say what happened; `technical` may be empty, `can_decode` offers to go on from the saved latents."""
        self._title.show_text(text.title)
        self._advice.show_text(text.advice)
        self._details.setPlainText(technical)
        self._show_details.setVisible(bool(technical))
        self._decode.setVisible(can_decode)
        self._set_details_visible(False)
        self.show()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._mark.setPixmap(icon("warning", colours.danger).pixmap(QSize(20, 20), self.devicePixelRatioF()))
        self._close.setIcon(icon("close", colours.text_dim))

    def _lay_out(self) -> None:
        self._close.setFixedSize(28, 28)
        self._close.setAccessibleName(self.tr("Close this message"))
        self._lay_out_body()
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        head.addLayout(self._body, 1)
        head.addWidget(self._close, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, FIRST_LINE_TOP, 12, 12)
        column.setSpacing(12)
        column.addLayout(head)
        column.addWidget(self._details)

    def _lay_out_body(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self._title)
        words.addWidget(self._advice, 1)
        buttons = QHBoxLayout()
        buttons.setSpacing(12)
        for widget in (self._copy, self._show_details, self._decode):
            buttons.addWidget(widget)
        self._body.setContentsMargins(0, FIRST_LINE_TOP, 0, 0)
        self._body.setSpacing(12)
        self._body.addLayout(words, 1)
        self._body.addLayout(buttons)
        self._body.setAlignment(buttons, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)

    def _set_details_visible(self, visible: bool) -> None:
        self._details.setVisible(visible)
        self._copy.setVisible(visible)
        self._show_details.setText(self.tr("Hide details") if visible else self.tr("Technical details"))

    @Slot()
    def _toggle_details(self) -> None:
        self._set_details_visible(self._details.isHidden())

    @Slot()
    def _copy_details(self) -> None:
        QGuiApplication.clipboard().setText(self._details.toPlainText())

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.visibility_changed.emit()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.visibility_changed.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        is_wide = event.size().width() >= ROOM_BESIDE
        self._body.setDirection(QBoxLayout.Direction.LeftToRight if is_wide else QBoxLayout.Direction.TopToBottom)
