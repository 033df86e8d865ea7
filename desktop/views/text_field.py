"""The fields for words; UI thread."""

from PySide6.QtCore import QMimeData, QSize
from PySide6.QtWidgets import QPlainTextEdit, QSizePolicy

from desktop.state.latents_files import local_files


class TextField(QPlainTextEdit):
    """Plain text in which Tab moves on, as it does everywhere else in the panel."""

    def __init__(self, name: str, placeholder: str, lowest: int) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setPlaceholderText(placeholder)
        self.setTabChangesFocus(True)
        self.setMinimumHeight(lowest)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_text(self, text: str) -> None:
        """Show `text` unless it is there already."""
        if self.toPlainText() != text:
            self.setPlainText(text)

    def sizeHint(self) -> QSize:
        return QSize(200, 56)

    def canInsertFromMimeData(self, source: QMimeData) -> bool:
        # A file dropped here is meant for the window, which opens it; its path would be no prompt.
        return not local_files(source) and super().canInsertFromMimeData(source)
