"""The name of the chosen model in the side panel, which opens the page of models; UI thread."""

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from desktop.library_words import chosen_text, standing_text
from desktop.state.library import Library, Standing
from desktop.views.slider_row import LABEL_WIDTH
from desktop.views.wrapped_label import WrappedLabel

PADDING = 26  # of a button, both sides and its border


class ModelButton(QWidget):
    """Says below the name what stands between the model and a video."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self._library = library
        self.button = _ElidedButton()
        self.button.setObjectName("models")
        self._said = WrappedLabel()
        self._said.setObjectName("modelStanding")
        label = QLabel(self.tr("Model"))
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(self.button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(row)
        column.addWidget(self._said)
        library.changed.connect(self.refresh)
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Show the choice."""
        name, said = chosen_text(self._library), standing_text(self._library)
        self.button.show_text(name)
        self.button.setAccessibleName(self.tr("Model: {name}").format(name=name))
        role = "small" if self._library.standing is Standing.SEARCHING else "problem"
        if self._said.property("role") != role:
            self._said.setProperty("role", role)
            self._said.style().polish(self._said)
        self._said.show_text(said)
        self._said.setVisible(bool(said))


class _ElidedButton(QPushButton):
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
