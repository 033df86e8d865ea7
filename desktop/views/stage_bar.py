"""The stages of a job as one bar of segments, painted; UI thread."""

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop.state.job import JobState, Phase
from desktop.theme import Colours
from engine.events import Stage

# Widths, not durations: enough to read a stage's progress, with room for the two that take long.
WIDTHS = {Stage.TEXT: 1.0, Stage.IMAGE: 1.0, Stage.SAMPLE: 6.0, Stage.DECODE: 3.0, Stage.ENCODE: 1.0}
GAP = 4.0
HEIGHT = 6


class StageBar(QWidget):
    """One segment a stage: done, running with its fraction, or to come."""

    def __init__(self, job: JobState, colours: Colours) -> None:
        super().__init__()
        self._job = job
        self._colours = colours
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        job.progress_changed.connect(self.update)

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, HEIGHT)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        stages = tuple(self._job.stages) or tuple(Stage)
        room = self.width() - GAP * (len(stages) - 1)
        unit = room / sum(WIDTHS[stage] for stage in stages)
        left = 0.0
        for stage in stages:
            segment = QRectF(left, 0, WIDTHS[stage] * unit, self.height())
            self._paint_segment(painter, stage, segment)
            left = segment.right() + GAP
        painter.end()

    def _paint_segment(self, painter: QPainter, stage: Stage, segment: QRectF) -> None:
        radius = segment.height() / 2
        painter.setBrush(QColor(self._colours.track))
        painter.drawRoundedRect(segment, radius, radius)
        filled = QRectF(segment)
        filled.setWidth(segment.width() * self._fraction(stage))
        if filled.width() > 0:
            filled.setWidth(max(filled.width(), segment.height()))
            painter.setBrush(self._fill(stage))
            painter.drawRoundedRect(filled, radius, radius)

    def _fraction(self, stage: Stage) -> float:
        progress = self._job.stages.get(stage)
        return progress.fraction if progress is not None else 0.0

    def _fill(self, stage: Stage) -> QColor:
        if self._job.phase is Phase.FAILED and stage is self._job.stage:
            return QColor(self._colours.danger)
        given_up = self._job.phase in (Phase.FAILED, Phase.CANCELLED)
        return QColor(self._colours.others if given_up else self._colours.accent)
