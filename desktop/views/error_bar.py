"""A failure in plain words, with the technical text behind a button; UI thread."""

from PySide6.QtCore import QSize, Signal, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QPlainTextEdit, QPushButton, QToolButton, QVBoxLayout

from desktop.icons import icon
from desktop.theme import Colours
from desktop.words import FailureText


class ErrorBar(QFrame):
    """Hidden until something fails."""

    decode_requested = Signal()

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("errorBar")
        self._mark = QLabel()
        self._title = QLabel()
        self._title.setProperty("role", "heading")
        self._advice = QLabel()
        self._details = QPlainTextEdit()
        self._details.setReadOnly(True)
        self._details.setFixedHeight(120)
        self._decode = QPushButton(self.tr("Decode again"))
        self._show_details = QPushButton()
        self._show_details.setProperty("role", "link")
        self._copy = QPushButton(self.tr("Copy"))
        self._copy.setProperty("role", "link")
        self._close = QToolButton()
        for label in (self._title, self._advice):
            label.setWordWrap(True)
        self._lay_out()
        self._show_details.clicked.connect(self._toggle_details)
        self._copy.clicked.connect(self._copy_details)
        self._decode.clicked.connect(self.decode_requested)
        self._close.clicked.connect(self.hide)
        self.paint_in(colours)
        self.hide()

    def show_failure(self, text: FailureText, technical: str, can_decode: bool) -> None:
        """Say what happened; `technical` may be empty, `can_decode` offers to go on from the saved latents."""
        self._title.setText(text.title)
        self._advice.setText(text.advice)
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
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self._title)
        words.addWidget(self._advice)
        head = QHBoxLayout()
        head.setSpacing(12)
        head.addWidget(self._mark)
        head.addLayout(words, 1)
        for widget in (self._copy, self._show_details, self._decode, self._close):
            head.addWidget(widget)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 12, 12)
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
