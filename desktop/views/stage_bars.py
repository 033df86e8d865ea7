"""What every stage of the next job will take, as bars against the budget and the card, painted; UI thread."""

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop.theme import Colours
from desktop.words import byte_text, stage_name
from engine.events import StageOutlook

ROW = 26
BAR = 10
NAME_WIDTH, FIGURE_WIDTH = 128, 76
HEADROOM = 1.08  # of the scale, where there is no card whose size would be its end


@dataclass(frozen=True, slots=True)
class BarScale:
    """What the bars are measured against: the budget, and where they end, the card's memory if there is a card."""

    budget_bytes: int | None
    total_bytes: int | None


class StageBars(QWidget):
    """One row a stage: its name, a bar, and the figure. The line is the budget."""

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self._colours = colours
        self._stages: tuple[StageOutlook, ...] = ()
        self._scale = BarScale(None, None)
        self.setObjectName("stageBars")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def end_bytes(self) -> float:
        """What the whole length of a bar stands for."""
        largest = max([self._scale.budget_bytes or 0, *(stage.predicted_peak_bytes for stage in self._stages)])
        return max(self._scale.total_bytes or 0, largest * HEADROOM, 1)

    def show_stages(self, stages: Sequence[StageOutlook], scale: BarScale) -> None:
        """Show these."""
        self._stages, self._scale = tuple(stages), scale
        lines = [f"{stage_name(each.stage)} {byte_text(each.predicted_peak_bytes)}" for each in stages]
        self.setAccessibleName("; ".join(lines))
        self.updateGeometry()
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(320, ROW * len(self._stages))

    def minimumSizeHint(self) -> QSize:
        return QSize(NAME_WIDTH + FIGURE_WIDTH + 80, ROW * len(self._stages))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for row, stage in enumerate(self._stages):
            self._paint_row(painter, stage, QRectF(0, row * ROW, self.width(), ROW))
        self._paint_budget(painter)
        painter.end()

    def _track(self, row: QRectF) -> QRectF:
        width = row.width() - NAME_WIDTH - FIGURE_WIDTH - 16
        return QRectF(NAME_WIDTH + 8, row.center().y() - BAR / 2, width, BAR)

    def _paint_row(self, painter: QPainter, stage: StageOutlook, row: QRectF) -> None:
        colours, track = self._colours, self._track(row)
        painter.setPen(QColor(colours.text_dim))
        painter.drawText(QRectF(0, row.top(), NAME_WIDTH, ROW), Qt.AlignmentFlag.AlignVCenter, stage_name(stage.stage))
        painter.setPen(QColor(colours.text if stage.fits else colours.danger))
        figure = QRectF(row.right() - FIGURE_WIDTH, row.top(), FIGURE_WIDTH, ROW)
        ends = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
        painter.drawText(figure, ends, byte_text(stage.predicted_peak_bytes))
        shape = QPainterPath()
        shape.addRoundedRect(track, BAR / 2, BAR / 2)
        painter.fillPath(shape, QColor(colours.track))
        filled = QRectF(track)
        filled.setWidth(track.width() * min(1.0, stage.predicted_peak_bytes / self.end_bytes))
        painter.setClipPath(shape)
        painter.fillRect(filled, QColor(colours.accent if stage.fits else colours.danger))
        painter.setClipping(False)

    def _paint_budget(self, painter: QPainter) -> None:
        """Across all rows where all are held to the same."""
        if self._scale.budget_bytes is None or not self._stages:
            return
        track = self._track(QRectF(0, 0, self.width(), ROW))
        x = track.left() + track.width() * self._scale.budget_bytes / self.end_bytes
        painter.setPen(QPen(QColor(self._colours.text), 2))
        painter.drawLine(QPointF(x, 3), QPointF(x, ROW * len(self._stages) - 3))
