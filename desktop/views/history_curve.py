"""Two minutes of our own memory as a curve, painted; UI thread."""

import math

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QLinearGradient, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop.state.memory import MemoryState
from desktop.theme import Colours
from desktop.words import byte_text

HEADROOM = 1.25  # leaves the scale's figure above the curve and the dashed line
WIDTH = 240


def round_ceiling(size_bytes: float) -> float:
    """The next size that reads well as a scale's end: 1, 1.5, 2, 3, 4, 5, 6 or 8 times a power of ten MB or GB."""
    if size_bytes <= 0:
        return 0
    unit = 1 << 20 if size_bytes < 1000 * (1 << 20) else 1 << 30
    power = unit * 10 ** math.floor(math.log10(size_bytes / unit))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= size_bytes)


class HistoryCurve(QWidget):
    """The share that the job is held to, newest at the right, with the predicted peak as a dashed line."""

    def __init__(self, state: MemoryState, colours: Colours) -> None:
        super().__init__()
        self._state = state
        self._colours = colours
        self._predicted_bytes: int | None = None
        self.setFixedWidth(WIDTH)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Expanding)

    def show_prediction(self, predicted_bytes: int | None) -> None:
        """The level that the running stage is predicted to reach."""
        self._predicted_bytes = predicted_bytes
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(WIDTH, 72)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        self._paint_ground(painter, area)
        top = self._top_bytes()
        if top > 0:
            self._paint_curve(painter, area, top)
            self._paint_prediction(painter, area, top)
            self._paint_scale(painter, area, top)
        painter.end()

    def _levels(self) -> list[tuple[int, int]]:
        """Our share and how many readings ago, oldest first; readings that do not know it are left out."""
        newest = len(self._state.history) - 1
        known = ((newest - index, sample.live_bytes) for index, sample in enumerate(self._state.history))
        return [(ago, live) for ago, live in known if live is not None]

    def _top_bytes(self) -> float:
        """The scale's end: a little above what was used and what is predicted."""
        return round_ceiling(max([self._predicted_bytes or 0, *(live for _, live in self._levels())]) * HEADROOM)

    def _paint_ground(self, painter: QPainter, area: QRectF) -> None:
        ground = QPainterPath()
        ground.addRoundedRect(area, 6, 6)
        painter.fillPath(ground, QColor(self._colours.field))
        painter.setClipPath(ground)
        painter.setPen(QPen(QColor(self._colours.track), 1))
        for third in (1, 2):
            y = round(area.top() + area.height() * third / 3) + 0.5
            painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))

    def _paint_curve(self, painter: QPainter, area: QRectF, top: float) -> None:
        step = area.width() / ((self._state.history.maxlen or 2) - 1)
        points = [
            QPointF(area.right() - step * ago, area.bottom() - area.height() * live / top)
            for ago, live in self._levels()
        ]
        if not points:
            return
        line = QPainterPath(points[0])
        for point in points[1:]:
            line.lineTo(point)
        self._fill_under(painter, line, area, points)
        painter.setPen(QPen(QColor(self._colours.accent), 1.75))
        painter.drawPath(line)

    def _fill_under(self, painter: QPainter, line: QPainterPath, area: QRectF, points: list[QPointF]) -> None:
        under = QPainterPath(line)
        under.lineTo(points[-1].x(), area.bottom())
        under.lineTo(points[0].x(), area.bottom())
        under.closeSubpath()
        colour = QColor(self._colours.accent)
        gradient = QLinearGradient(area.topLeft(), area.bottomLeft())
        for position, alpha in ((0.0, 0.42), (1.0, 0.06)):
            colour.setAlphaF(alpha)
            gradient.setColorAt(position, colour)
        painter.fillPath(under, gradient)

    def _paint_prediction(self, painter: QPainter, area: QRectF, top: float) -> None:
        if self._predicted_bytes is None:
            return
        y = area.bottom() - area.height() * self._predicted_bytes / top
        pen = QPen(QColor(self._colours.text), 1.25)
        pen.setDashPattern([3, 3])
        painter.setPen(pen)
        painter.drawLine(QPointF(area.left(), y), QPointF(area.right(), y))

    def _paint_scale(self, painter: QPainter, area: QRectF, top: float) -> None:
        font = QFont(self.font())
        font.setPixelSize(11)
        painter.setFont(font)
        painter.setPen(QColor(self._colours.text_dim))
        inner = area.adjusted(8, 4, -8, -4)
        painter.drawText(inner, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop, byte_text(top))
        painter.drawText(inner, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignBottom, self.tr("last 2 minutes"))
