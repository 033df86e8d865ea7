"""The page on which models are looked for and chosen, in the place of the picture; UI thread."""

from itertools import pairwise

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from desktop.icons import icon
from desktop.state.found_items import FoundItems
from desktop.state.library import Library
from desktop.theme import Colours
from desktop.views.found_list import FoundList
from desktop.views.lora_list import LoraList
from desktop.views.model_fields import ModelFields
from desktop.views.place_list import PlaceList
from desktop.views.wheel_guard import WheelGuard
from desktop.views.wrapped_label import WrappedLabel

WIDEST = 880  # beyond this, lines are too long to be followed


class ModelPage(QFrame):
    """Where from, what, and with which parts; hidden until it is asked for."""

    close_requested = Signal()
    folder_requested = Signal()
    file_requested = Signal()

    def __init__(self, library: Library, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("modelPage")
        self._library = library
        self._close, self._again = QToolButton(), QToolButton()
        self._add_folder, self._add_file = QPushButton(self.tr("Add folder…")), QPushButton(self.tr("Add file…"))
        self._hint, self._details = WrappedLabel(), WrappedLabel()
        self.places = PlaceList(library.found, colours)
        self.fields = ModelFields(library)
        self.loras = LoraList(library, colours)
        self._items = FoundItems(library.found, self)
        self.files = FoundList(self._items, colours)
        self._set_up()
        self._lay_out()
        self._connect()
        self.paint_in(colours)
        self.refresh()
        self.hide()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._close.setIcon(icon("close", colours.text_dim))
        self._again.setIcon(icon("reroll", colours.text_dim))
        self.places.paint_in(colours)
        self.loras.paint_in(colours)
        self.files.paint_in(colours)

    def take_focus(self) -> None:
        """Put the focus on what comes first: a folder to choose, or else the model."""
        has_models = bool(self._library.models())
        (self.fields.boxes[0] if has_models else self._add_folder).setFocus()

    def _set_up(self) -> None:
        self._close.setToolTip(self.tr("Close (Esc)"))
        self._close.setAccessibleName(self.tr("Close the models"))
        self._again.setToolTip(self.tr("Look again"))
        self._again.setAccessibleName(self.tr("Look again"))
        for button in (self._close, self._again):
            button.setFixedSize(32, 32)
            button.setIconSize(QSize(18, 18))
        self._add_folder.setObjectName("addFolder")
        self._add_file.setObjectName("addFile")
        for label in (self._hint, self._details):
            label.setProperty("role", "small")
        self._details.setObjectName("fileDetails")
        self._details.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._details.hide()
        self._hint.show_text(
            self.tr(
                "Choose the folders in which your Wan models are, or drop them on the window. Nothing is downloaded, "
                "and nothing is written there."
            )
        )
        guard = WheelGuard(self)
        for box in self.fields.boxes:
            guard.watch(box)

    def _lay_out(self) -> None:
        content = QWidget()
        content.setMaximumWidth(WIDEST)
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, 12, 4)
        column.setSpacing(8)
        for widget in (_heading(self.tr("Where models are")), self._hint, self.places):
            column.addWidget(widget)
        column.addLayout(self._place_buttons())
        self._lora_head, self._files_head = _heading(self.tr("LoRAs")), _heading(self.tr("Files that were found"))
        for head, body in (
            (_heading(self.tr("Model and parts")), self.fields),
            (self._lora_head, self.loras),
            (self._files_head, self.files),
        ):
            column.addSpacing(12)
            column.addWidget(head)
            column.addWidget(body)
        column.addWidget(self._details)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(content)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(8)
        page.addLayout(self._head())
        page.addWidget(area, 1)

    def _head(self) -> QHBoxLayout:
        title = QLabel(self.tr("Models"))
        title.setProperty("role", "brand")
        row = QHBoxLayout()
        row.addWidget(title)
        row.addStretch(1)
        row.addWidget(self._close)
        return row

    def _place_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._add_folder)
        row.addWidget(self._add_file)
        row.addStretch(1)
        row.addWidget(self._again)
        return row

    def _connect(self) -> None:
        self._close.clicked.connect(self.close_requested)
        self._add_folder.clicked.connect(self.folder_requested)
        self._add_file.clicked.connect(self.file_requested)
        self._again.clicked.connect(self._library.found.search_again)
        self.places.removal_requested.connect(self._library.found.remove_place)
        self._library.changed.connect(self.refresh)
        self._items.refreshed.connect(self.refresh)
        self.files.details_changed.connect(self._show_details)
        self.places.rows_changed.connect(self._order_stops)
        self.loras.rows_changed.connect(self._order_stops)
        self._order_stops()

    @Slot()
    def refresh(self) -> None:
        """Leave out what there is nothing to say about."""
        has_places = bool(self._library.found.places)
        self._again.setVisible(has_places)
        self._hint.setVisible(not has_places)
        has_loras = self._library.chosen is not None or bool(self._library.choice.loras)
        for widget in (self._lora_head, self.loras):
            widget.setVisible(has_loras)
        self._files_head.setVisible(self._items.rowCount() > 0)

    @Slot(str)
    def _show_details(self, text: str) -> None:
        self._details.show_text(text)
        self._details.setVisible(bool(text))

    @Slot()
    def _order_stops(self) -> None:
        """Rows that were made later would come last for the Tab key."""
        stops = [self._close, *self.places.stops, self._add_folder, self._add_file, self._again]
        stops += [*self.fields.boxes, *self.loras.stops, self.files]
        for first, second in pairwise(stops):
            QWidget.setTabOrder(first, second)


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    label.setProperty("role", "heading")
    return label
