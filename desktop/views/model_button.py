"""The name of the chosen model in the side panel, which opens the page of models; UI thread."""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from desktop.library_words import chosen_text, standing_text
from desktop.state.library import Library, Standing
from desktop.views.elided_button import ElidedButton
from desktop.views.slider_row import LABEL_WIDTH
from desktop.views.wrapped_label import WrappedLabel


class ModelButton(QWidget):
    """Says below the name what stands between the model and a video."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self._library = library
        self.button = ElidedButton()
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
