"""One setting of a page: its name, its control, and below it what there is to say; UI thread."""

from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from desktop.views.wrapped_label import WrappedLabel

LABEL_WIDTH = 136
WIDEST = 440


class OptionRow(QWidget):
    """The note is what would be by the preset, and why something cannot be chosen."""

    def __init__(self, name: str, control: QWidget) -> None:
        super().__init__()
        self.control = control
        control.setMaximumWidth(WIDEST)
        label = QLabel(name)
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        label.setBuddy(control)
        self._note = WrappedLabel()
        self._note.setProperty("role", "small")
        self._note.setContentsMargins(LABEL_WIDTH + 8, 0, 0, 0)
        self._note.hide()
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(control, 2)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self._note)

    @property
    def note(self) -> str:
        """What is said below the control."""
        return self._note.text().replace("\u200b", "")

    def say(self, *notes: str) -> None:
        """Say these, as far as there is anything to say."""
        text = " ".join(filter(None, notes))
        self._note.show_text(text)
        self._note.setVisible(bool(text))
