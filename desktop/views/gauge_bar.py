"""The stacked memory bar with its two promises drawn as lines, painted; UI thread."""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from desktop.state.memory import MemorySample, MemoryState
from desktop.state.optimise import BUDGET_STEP_BYTES
from desktop.theme import Colours
from desktop.views.budget_handle import BudgetHandle, BudgetMark

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

    budget_chosen = Signal(object)  # int, or None for automatic

    def __init__(self, state: MemoryState, colours: Colours) -> None:
        super().__init__()
        self._state = state
        self._colours = colours
        self._predicted_bytes: int | None = None
        self._mark: BudgetMark | None = None
        self.handle = BudgetHandle(self, colours)
        self.handle.moved_to.connect(self._take_place)
        self.handle.stepped.connect(self._take_steps)
        self.handle.reset_requested.connect(self._take_reset)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_promises(self, predicted_bytes: int | None, mark: BudgetMark | None) -> None:
        """Where to draw the lines; both count from where our own share begins."""
        self._predicted_bytes, self._mark = predicted_bytes, mark
        self._place_handle()
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.handle.paint_in(colours)
        self.update()

    def colour_of(self, name: str) -> QColor:
        """The colour of a segment, for the legend."""
        colour = QColor(self._colours.others if name == "others" else self._colours.accent)
        if name == "reserved":
            colour.setAlphaF(0.4)
        return colour

    def _place_handle(self) -> None:
        sample, mark = self._state.sample, self._mark
        if sample is None or sample.total_bytes <= 0 or mark is None:
            self.handle.put_away()
        else:
            self.handle.show_mark(mark, self._x_of(sample, mark.ground_bytes + mark.budget_bytes), self.height())

    def _x_of(self, sample: MemorySample, ours_bytes: int) -> float:
        """Where a line stands that leaves `ours_bytes` to us."""
        share = (sample.others_bytes + ours_bytes) / sample.total_bytes
        return round(min(max(share, 0.0), 1.0) * (self.width() - 2)) + 1.0

    def _choose(self, budget_bytes: float) -> None:
        """Take the nearest step that there is room for in the bar."""
        sample, mark = self._state.sample, self._mark
        if sample is None or mark is None or mark.is_fixed:
            return
        room = sample.total_bytes - sample.others_bytes - mark.ground_bytes
        most = max(1, room // BUDGET_STEP_BYTES)
        steps = min(max(1, round(budget_bytes / BUDGET_STEP_BYTES)), most)
        self.budget_chosen.emit(steps * BUDGET_STEP_BYTES)

    @Slot(float)
    def _take_place(self, x: float) -> None:
        sample, mark = self._state.sample, self._mark
        if sample is not None and mark is not None and self.width() > 2:
            ours = (x - 1.0) / (self.width() - 2) * sample.total_bytes - sample.others_bytes
            self._choose(ours - mark.ground_bytes)

    @Slot(int)
    def _take_steps(self, steps: int) -> None:
        if self._mark is not None:
            self._choose(self._mark.budget_bytes + steps * BUDGET_STEP_BYTES)

    @Slot()
    def _take_reset(self) -> None:
        if self._mark is not None and not self._mark.is_fixed:
            self.budget_chosen.emit(None)

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
            self._paint_prediction(painter, sample, bar)
        painter.end()

    def _paint_segments(self, painter: QPainter, sample: MemorySample, bar: QRectF) -> None:
        painter.setPen(Qt.PenStyle.NoPen)
        left = bar.left()
        for segment in segments(sample):
            width = bar.width() * segment.size_bytes / sample.total_bytes
            painter.fillRect(QRectF(left, bar.top(), width, bar.height()), self.colour_of(segment.name))
            left += width

    def _paint_prediction(self, painter: QPainter, sample: MemorySample, bar: QRectF) -> None:
        if self._predicted_bytes is None:
            return
        x = self._x_of(sample, self._predicted_bytes)
        pen = QPen(QColor(self._colours.text), 2)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        pen.setDashPattern([1.5, 1.0])
        painter.setPen(pen)
        painter.drawLine(QPointF(x, bar.top() - 4), QPointF(x, bar.bottom() + 4))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._place_handle()
