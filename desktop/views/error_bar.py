"""A failure in plain words, with the technical text behind a button; UI thread."""

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QToolButton, QVBoxLayout

from desktop.failure_words import FailureText
from desktop.icons import icon
from desktop.theme import Colours
from desktop.views.message_bar import MessageBar

DETAILS_HEIGHTS = (40, 120)
FIRST_LINE_TOP = 6  # brings sign, first line and the button that closes to one height


class ErrorBar(MessageBar):
    """Hidden until something fails."""

    decode_requested = Signal()
    go_on_requested = Signal()

    def __init__(self, colours: Colours) -> None:
        buttons = QPushButton(), QPushButton(), QPushButton(), QPushButton()
        super().__init__("errorBar", buttons)
        self._copy, self._show_details, self._decode, self._go_on = buttons
        self._copy.setText(self.tr("Copy"))
        self._decode.setText(self.tr("Decode again"))
        self._go_on.setText(self.tr("Go on"))
        for link in (self._copy, self._show_details):
            link.setProperty("role", "link")
        self._mark = QLabel()
        self._mark.setContentsMargins(0, FIRST_LINE_TOP - 2, 0, 0)
        self._details = QPlainTextEdit()
        self._details.setReadOnly(True)
        self._details.setMinimumHeight(DETAILS_HEIGHTS[0])
        self._details.setMaximumHeight(DETAILS_HEIGHTS[1])
        self._close = QToolButton()
        self._lay_out()
        self._show_details.clicked.connect(self._toggle_details)
        self._copy.clicked.connect(self._copy_details)
        self._decode.clicked.connect(self.decode_requested)
        self._go_on.clicked.connect(self.go_on_requested)
        self._close.clicked.connect(self.hide)
        self.paint_in(colours)

    def show_failure(
        self, text: FailureText, technical: str, *, can_decode: bool = False, can_go_on: bool = False
    ) -> None:
        """Say what happened; `technical` may be empty.

        can_decode, can_go_on: whether to offer to decode the saved latents, or to sample on from the last kept step.
        """
        self.say(text)
        self._details.setPlainText(technical)
        self._show_details.setVisible(bool(technical))
        self._decode.setVisible(can_decode)
        self._go_on.setVisible(can_go_on)
        self._set_details_visible(False)
        self.show()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._mark.setPixmap(icon("warning", colours.danger).pixmap(QSize(20, 20), self.devicePixelRatioF()))
        self._close.setIcon(icon("close", colours.text_dim))

    def _lay_out(self) -> None:
        self._close.setFixedSize(28, 28)
        self._close.setAccessibleName(self.tr("Close this message"))
        self.body.setContentsMargins(0, FIRST_LINE_TOP, 0, 0)
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self._mark, 0, Qt.AlignmentFlag.AlignTop)
        head.addLayout(self.body, 1)
        head.addWidget(self._close, 0, Qt.AlignmentFlag.AlignTop)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, FIRST_LINE_TOP, 12, 12)
        column.setSpacing(12)
        column.addLayout(head)
        column.addWidget(self._details)

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
