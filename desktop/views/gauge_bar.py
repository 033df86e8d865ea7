"""The stacked memory bar with its two promises drawn as lines, painted; UI thread."""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop.state.memory import MemorySample, MemoryState
from desktop.theme import Colours

BAR_HEIGHT = 16
MARK_ROOM = 6  # above and below the bar, for the ends of the lines


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of one part of the bar, in the order they are stacked."""

    name: str
    size_bytes: int


def segments(sample: MemorySample) -> list[Segment]:
    """What the bar stacks. Without figures from torch our own share is one part; unknown parts are left out."""
    parts = [Segment("others", sample.others_bytes)]
    if sample.allocated_bytes is not None and sample.reserved_bytes is not None:
        idle = max(0, sample.known_ours_bytes - sample.allocated_bytes)
        return [*parts, Segment("allocated", sample.allocated_bytes), Segment("reserved", idle)]
    return [*parts, Segment("allocated", sample.ours_bytes)] if sample.ours_bytes is not None else parts


class GaugeBar(QWidget):
    """Others, ours in use, ours in reserve; a dashed line for the predicted peak, a solid one for the budget."""

    def __init__(self, state: MemoryState, colours: Colours) -> None:
        super().__init__()
        self._state = state
        self._colours = colours
        self._predicted_bytes: int | None = None
        self._budget_bytes: int | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_promises(self, predicted_bytes: int | None, budget_bytes: int | None) -> None:
        """Where to draw the lines; both count from where our own share begins."""
        self._predicted_bytes, self._budget_bytes = predicted_bytes, budget_bytes
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def colour_of(self, name: str) -> QColor:
        """The colour of a segment, for the legend."""
        colour = QColor(self._colours.others if name == "others" else self._colours.accent)
        if name == "reserved":
            colour.setAlphaF(0.4)
        return colour

    def sizeHint(self) -> QSize:
        return QSize(200, BAR_HEIGHT + 2 * MARK_ROOM)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        bar = QRectF(0, MARK_ROOM, self.width(), BAR_HEIGHT)
        shape = QPainterPath()
        shape.addRoundedRect(bar, BAR_HEIGHT / 2, BAR_HEIGHT / 2)
        painter.fillPath(shape, QColor(self._colours.track))
        sample = self._state.sample
        if sample is not None and sample.total_bytes > 0:
            painter.setClipPath(shape)
            self._paint_segments(painter, sample, bar)
            painter.setClipping(False)
            self._paint_lines(painter, sample, bar)
        painter.end()

    def _paint_segments(self, painter: QPainter, sample: MemorySample, bar: QRectF) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        left = bar.left()
        for segment in segments(sample):
            width = bar.width() * segment.size_bytes / sample.total_bytes
            painter.fillRect(QRectF(left, bar.top(), width, bar.height()), self.colour_of(segment.name))
            left += width

    def _paint_lines(self, painter: QPainter, sample: MemorySample, bar: QRectF) -> None:
        others = sample.others_bytes
        if self._predicted_bytes is not None:
            self._paint_line(painter, bar, (others + self._predicted_bytes) / sample.total_bytes, dashed=True)
        if self._budget_bytes is not None:
            self._paint_line(painter, bar, (others + self._budget_bytes) / sample.total_bytes, dashed=False)

    def _paint_line(self, painter: QPainter, bar: QRectF, share: float, dashed: bool) -> None:
        x = round(min(max(share, 0.0), 1.0) * (bar.width() - 2)) + 1.0
        pen = QPen(QColor(self._colours.text), 2)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        if dashed:
            pen.setDashPattern([1.5, 1.0])
        painter.setPen(pen)
        painter.drawLine(QPointF(x, bar.top() - 4), QPointF(x, bar.bottom() + 4))
        if not dashed:
            self._paint_cap(painter, QPointF(x, bar.top() - 1))

    def _paint_cap(self, painter: QPainter, tip: QPointF) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self._colours.text))
        painter.drawPolygon(QPolygonF([tip, tip + QPointF(-4, -5), tip + QPointF(4, -5)]))
