"""The page on which models are looked for and chosen, in the place of the picture; UI thread."""

from itertools import pairwise

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QToolButton, QWidget

from desktop.icons import icon
from desktop.state.found_items import FoundItems
from desktop.state.library import Library
from desktop.theme import Colours
from desktop.views.found_list import FoundList
from desktop.views.lora_list import LoraList
from desktop.views.model_fields import ModelFields
from desktop.views.page import Page, heading
from desktop.views.place_list import PlaceList
from desktop.views.wheel_guard import WheelGuard
from desktop.views.wrapped_label import WrappedLabel


class ModelPage(Page):
    """Where from, what, and with which parts; hidden until it is asked for."""

    folder_requested = Signal()
    file_requested = Signal()

    def __init__(self, library: Library, colours: Colours) -> None:
        super().__init__(self.tr("Models"), self.tr("Close the models"))
        self.setObjectName("modelPage")
        self._library = library
        self._again = QToolButton()
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

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        super().paint_in(colours)
        self._again.setIcon(icon("reroll", colours.text_dim))
        self.places.paint_in(colours)
        self.loras.paint_in(colours)
        self.files.paint_in(colours)

    def take_focus(self) -> None:
        """Put the focus on what comes first: a folder to choose, or else the model."""
        has_models = bool(self._library.models())
        (self.fields.boxes[0] if has_models else self._add_folder).setFocus()

    def _set_up(self) -> None:
        self._again.setToolTip(self.tr("Look again"))
        self._again.setAccessibleName(self.tr("Look again"))
        self._again.setFixedSize(32, 32)
        self._again.setIconSize(QSize(18, 18))
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
        column = self.column
        for widget in (heading(self.tr("Where models are")), self._hint, self.places):
            column.addWidget(widget)
        column.addLayout(self._place_buttons())
        self._lora_head, self._files_head = heading(self.tr("LoRAs")), heading(self.tr("Files that were found"))
        for head, body in (
            (heading(self.tr("Model and parts")), self.fields),
            (self._lora_head, self.loras),
            (self._files_head, self.files),
        ):
            column.addSpacing(12)
            column.addWidget(head)
            column.addWidget(body)
        column.addWidget(self._details)
        column.addStretch(1)

    def _place_buttons(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self._add_folder)
        row.addWidget(self._add_file)
        row.addStretch(1)
        row.addWidget(self._again)
        return row

    def _connect(self) -> None:
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
        stops = [self.close_button, *self.places.stops, self._add_folder, self._add_file, self._again]
        stops += [*self.fields.boxes, *self.loras.stops, self.files]
        for first, second in pairwise(stops):
            QWidget.setTabOrder(first, second)
