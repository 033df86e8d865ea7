"""The places where models are looked for, one row each; UI thread."""

from pathlib import Path

from PySide6.QtCore import QSize, Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QToolButton, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.library_words import place_text
from desktop.state.found_models import FoundModels, Place
from desktop.theme import Colours
from desktop.views.elided_label import ElidedLabel


class PlaceList(QWidget):
    """Keeps its rows while their places stay, so that the focus stays where it is."""

    removal_requested = Signal(object)  # Path
    rows_changed = Signal()

    def __init__(self, found: FoundModels, colours: Colours) -> None:
        super().__init__()
        self._found, self._colours = found, colours
        self._rows: list[_PlaceRow] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(4)
        found.changed.connect(self.refresh)
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        for row in self._rows:
            row.paint_in(colours)

    @property
    def stops(self) -> list[QWidget]:
        """What the Tab key goes to, in order."""
        return [row.remove for row in self._rows]

    @Slot()
    def refresh(self) -> None:
        """Show the places and how far their searches are."""
        places = self._found.places
        if [row.path for row in self._rows] != [place.path for place in places]:
            self._make_rows(places)
        for row, place in zip(self._rows, places, strict=True):
            row.show_place(place)
        self.setVisible(bool(places))

    def _make_rows(self, places: list[Place]) -> None:
        for row in self._rows:
            row.hide()
            row.deleteLater()
        self._rows = [_PlaceRow(place.path) for place in places]
        for row in self._rows:
            row.removal_requested.connect(self.removal_requested)
            row.paint_in(self._colours)
            self._column.addWidget(row)
        self.rows_changed.emit()


class _PlaceRow(QWidget):
    """A path, what was found there, and a button that forgets it."""

    removal_requested = Signal(object)  # Path

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._path, self._said = ElidedLabel(), QLabel()
        self._path.show_text(str(path))
        self._said.setObjectName("placeFound")
        self.remove = QToolButton()
        self.remove.setFixedSize(28, 28)
        self.remove.setIconSize(QSize(16, 16))
        self.remove.setToolTip(self.tr("Look there no more. The files stay."))
        self.remove.setAccessibleName(self.tr("Look no more in {path}").format(path=path))
        self.remove.clicked.connect(self._ask_removal)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self._path, 1)
        row.addWidget(self._said)
        row.addWidget(self.remove)

    def show_place(self, place: Place) -> None:
        """Say what was found."""
        role = "problem" if place.problem else "small"
        if self._said.property("role") != role:
            self._said.setProperty("role", role)
            self._said.style().polish(self._said)
        self._said.setText(place_text(place))

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self.remove.setIcon(icon("close", colours.text_dim))

    @Slot()
    def _ask_removal(self) -> None:
        self.removal_requested.emit(self.path)
