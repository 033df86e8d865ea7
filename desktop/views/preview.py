"""The picture: latent preview below, decoded rows above it, straight from the engine's memory; UI thread."""

import math

from PySide6.QtCore import QPointF, QRect, QRectF, QSize, Qt, Slot
from PySide6.QtGui import QColor, QFont, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop.state.canvas_images import CanvasImages, dirty_span
from desktop.state.playback import Playback
from desktop.theme import Colours
from engine.canvas import DirtyRows

RADIUS = 10.0
TILES = (7, 4)
TILE, GAP = 34.0, 8.0
WAVE_SECONDS = 2.4
WORDS_HEIGHT = 48
ROOM_FOR_MOSAIC = 264  # height below which there are only words


class PreviewWidget(QWidget):
    """Paints the frame that `Playback` points at; without a picture, a quiet mosaic with a line of text."""

    def __init__(self, images: CanvasImages, playback: Playback, colours: Colours) -> None:
        super().__init__()
        self._images = images
        self._playback = playback
        self._colours = colours
        self._text = ""
        self._is_waiting = False
        self._wave = 0.0
        self.setMinimumSize(240, 40)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Picture"))
        images.changed.connect(self._take_changes)
        images.closed.connect(self.update)
        playback.frame_changed.connect(self.update)

    def show_text(self, text: str, waiting: bool) -> None:
        """What to say while there is no picture; `waiting` lets the mosaic breathe."""
        self._text, self._is_waiting = text, waiting
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    @Slot(float)
    def tick(self, seconds: float) -> None:
        """Let the mosaic breathe while a job has nothing to show yet."""
        if self._is_waiting and self._images.is_empty:
            self._wave = (self._wave + seconds / WAVE_SECONDS) % 1.0
            self.update(self._mosaic_rect().toAlignedRect().adjusted(-2, -2, 2, 2))

    def picture_rect(self) -> QRect:
        """Where the picture is painted: as large as fits, in its own proportions."""
        if not self._images.frames:
            return QRect()
        size = self._images.frames[0].size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        return QRect((self.width() - size.width()) // 2, (self.height() - size.height()) // 2, *size.toTuple())

    @Slot(object)
    def _take_changes(self, dirty: list[DirtyRows]) -> None:
        frame = self._playback.frame
        span = dirty_span(dirty, frame)
        if not dirty:
            self.update()
        elif span is not None:
            self.update(self._rows_rect(*span))

    def _rows_rect(self, row_start: int, row_stop: int) -> QRect:
        """The part of the widget that shows these rows, with a margin for the edge line and for smoothing."""
        picture = self.picture_rect()
        scale = picture.height() / self._images.frames[0].height()
        top, bottom = math.floor(row_start * scale) - 4, math.ceil(row_stop * scale) + 4
        return QRect(picture.left(), picture.top() + top, picture.width(), bottom - top)

    def _paint_picture(self, painter: QPainter) -> None:
        frame, target = self._playback.frame, self.picture_rect()
        image = self._images.frames[frame]
        rows = self._images.rows_done(frame)
        painter.setClipPath(_rounded(QRectF(target)))
        if rows < image.height():
            painter.drawImage(target, self._images.preview_of(frame))
        if rows > 0:
            shown = QRectF(target)
            shown.setHeight(target.height() * rows / image.height())
            painter.drawImage(shown, image, QRectF(0, 0, image.width(), rows))
            if rows < image.height():
                self._paint_edge(painter, shown.bottomLeft(), shown.bottomRight())

    def _paint_edge(self, painter: QPainter, left: QPointF, right: QPointF) -> None:
        """The line down to which the picture is decoded."""
        painter.setPen(QPen(QColor(self._colours.accent), 1.5))
        painter.drawLine(left, right)

    def _mosaic_rect(self) -> QRectF:
        columns, rows = TILES
        size = QSize(int(columns * (TILE + GAP) - GAP), int(rows * (TILE + GAP) - GAP))
        return QRectF((self.width() - size.width()) / 2, (self.height() - size.height()) / 2 - 24, *size.toTuple())

    def _paint_mosaic(self, painter: QPainter) -> None:
        origin = self._mosaic_rect().topLeft()
        painter.setPen(Qt.PenStyle.NoPen)
        colour = QColor(self._colours.accent)
        for row in range(TILES[1]):
            for column in range(TILES[0]):
                colour.setAlphaF(self._tile_alpha(column, row))
                painter.setBrush(colour)
                corner = origin + QPointF(column * (TILE + GAP), row * (TILE + GAP))
                painter.drawRoundedRect(QRectF(corner.x(), corner.y(), TILE, TILE), 7, 7)

    def _tile_alpha(self, column: int, row: int) -> float:
        """A wave across the tiles that stands still when nothing is waited for."""
        phase = column / TILES[0] + row / (2.5 * TILES[1]) - self._wave
        return 0.10 + 0.26 * (0.5 + 0.5 * math.cos(2 * math.pi * phase)) ** 2

    def _paint_words(self, painter: QPainter) -> None:
        font = QFont(self.font())
        font.setPixelSize(15)
        painter.setFont(font)
        painter.setPen(QColor(self._colours.text_dim))
        painter.drawText(self._words_rect(), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._text)

    def _words_rect(self) -> QRectF:
        top = self._mosaic_rect().bottom() + 6 if self._has_mosaic() else (self.height() - WORDS_HEIGHT) / 2
        return QRectF(8, top, self.width() - 16, WORDS_HEIGHT)

    def _has_mosaic(self) -> bool:
        return self.height() >= ROOM_FOR_MOSAIC

    def _paint_focus(self, painter: QPainter) -> None:
        """The ring that says where Space goes."""
        painter.setClipping(False)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor(self._colours.accent), 1))
        painter.drawPath(_rounded(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.fillPath(_rounded(QRectF(self.rect())), QColor(self._colours.stage))
        if self._images.is_empty:
            if self._has_mosaic():
                self._paint_mosaic(painter)
            self._paint_words(painter)
        else:
            self._paint_picture(painter)
        if self.hasFocus():
            self._paint_focus(painter)
        painter.end()


def _rounded(rect: QRectF) -> QPainterPath:
    path = QPainterPath()
    path.addRoundedRect(rect, RADIUS, RADIUS)
    return path
