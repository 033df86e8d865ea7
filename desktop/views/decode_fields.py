"""The numbers of the ways to decode: strips and reference tiles; UI thread."""

from dataclasses import replace

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from desktop.decode_words import FRAMES_PER_LATENT, choice_name
from desktop.state.decode import DecodeChoice
from desktop.views.number_field import number_field
from desktop.views.slider_row import LABEL_WIDTH
from engine.commands import DecodeMode, DecodeSettings

LARGEST_SIDE = 4096
LARGEST_CHUNK = 64
ROWS_STEP = 8
TILE_STEP = 16  # whole latents of every VAE there is


class StripFields(QWidget):
    """Rows, frames and order of the strips; 0 is automatic."""

    settings_edited = Signal(object)  # DecodeSettings

    def __init__(self) -> None:
        super().__init__()
        self._settings = DecodeSettings(DecodeMode.STRIP_MAJOR)
        self._rows = _automatic_field(self.tr("Rows of a strip"), LARGEST_SIDE, ROWS_STEP)
        self._frames = _automatic_field(
            self.tr("Frames at a time"), LARGEST_CHUNK * FRAMES_PER_LATENT, FRAMES_PER_LATENT
        )
        self._order = QComboBox()
        self._order.setAccessibleName(self.tr("Order"))
        self._order.addItem(self.tr("Strip by strip"), DecodeMode.STRIP_MAJOR.value)
        self._order.addItem(self.tr("Frame by frame"), DecodeMode.FRAME_MAJOR.value)
        self._order.setToolTip(self.tr("Strip by strip needs the least memory. Frame by frame, frames come in order."))
        _lay_out(
            self, (self.tr("Rows"), self._rows), (self.tr("Frames"), self._frames), (self.tr("Order"), self._order)
        )
        self._rows.valueChanged.connect(self._take)
        self._frames.valueChanged.connect(self._take)
        self._order.activated.connect(self._take)

    def show_settings(self, settings: DecodeSettings) -> None:
        """Show these without announcing them."""
        self._settings = settings
        _show(self._rows, settings.strip_rows or 0)
        _show(self._frames, (settings.chunk_latents or 0) * FRAMES_PER_LATENT)
        self._order.setCurrentIndex(max(0, self._order.findData(settings.mode.value)))

    @Slot()
    def _take(self) -> None:
        rows, frames = self._rows.value() or None, self._frames.value()
        chunk = max(1, round(frames / FRAMES_PER_LATENT)) if frames else None
        mode = DecodeMode(self._order.currentData())
        edited = replace(self._settings, mode=mode, strip_rows=rows, chunk_latents=chunk)
        self.show_settings(edited)
        self.settings_edited.emit(edited)


class TileFields(QWidget):
    """Size of the tiles and the way from one to the next, in pixels. What does not fit is not corrected but refused."""

    settings_edited = Signal(object)  # DecodeSettings

    def __init__(self) -> None:
        super().__init__()
        self._settings = DecodeSettings(DecodeMode.REFERENCE)
        self._width, self._height = _side(self.tr("Width of a tile")), _side(self.tr("Height of a tile"))
        self._right, self._down = _side(self.tr("Step to the right")), _side(self.tr("Step down"))
        tile, step = _pair(self._width, self._height), _pair(self._right, self._down)
        step.setToolTip(self.tr("From one tile to the next, in pixels. What is left of the tile is cross-faded."))
        _lay_out(self, (self.tr("Tile"), tile), (self.tr("Step"), step))
        for side in (self._width, self._height, self._right, self._down):
            side.valueChanged.connect(self._take)

    def show_settings(self, settings: DecodeSettings) -> None:
        """Show these without announcing them."""
        self._settings = settings
        tiling = settings.tiling
        _show(self._width, tiling.tile_width)
        _show(self._height, tiling.tile_height)
        _show(self._right, tiling.stride_width)
        _show(self._down, tiling.stride_height)

    @Slot()
    def _take(self) -> None:
        tiling = replace(
            self._settings.tiling,
            tile_width=self._width.value(),
            tile_height=self._height.value(),
            stride_width=self._right.value(),
            stride_height=self._down.value(),
        )
        self._settings = replace(self._settings, tiling=tiling)
        self.settings_edited.emit(self._settings)


def field_row(name: str, field: QWidget) -> QHBoxLayout:
    """A label in the panel's first column and its field."""
    label = QLabel(name)
    label.setProperty("role", "label")
    label.setFixedWidth(LABEL_WIDTH)
    row = QHBoxLayout()
    row.setSpacing(8)
    row.addWidget(label)
    row.addWidget(field, 1)
    return row


def _lay_out(holder: QWidget, *fields: tuple[str, QWidget]) -> None:
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(8)
    for name, field in fields:
        column.addLayout(field_row(name, field))


def _pair(first: QSpinBox, second: QSpinBox) -> QWidget:
    times = QLabel("×")
    times.setProperty("role", "label")
    holder = QWidget()
    row = QHBoxLayout(holder)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(8)
    row.addWidget(first, 1)
    row.addWidget(times)
    row.addWidget(second, 1)
    return holder


def _automatic_field(name: str, largest: int, step: int) -> QSpinBox:
    field = number_field(QSpinBox(), name)
    field.setRange(0, largest)
    field.setSingleStep(step)
    field.setSpecialValueText(choice_name(DecodeChoice.AUTOMATIC))
    return field


def _side(name: str) -> QSpinBox:
    side = number_field(QSpinBox(), name)
    side.setRange(1, LARGEST_SIDE)
    side.setSingleStep(TILE_STEP)
    return side


def _show(field: QSpinBox, value: int) -> None:
    field.blockSignals(True)
    field.setValue(value)
    field.blockSignals(False)
