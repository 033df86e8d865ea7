"""The budget's line on the gauge, which can be taken hold of with the pointer and with the keys; UI thread."""

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPolygonF,
)
from PySide6.QtWidgets import QWidget

from desktop.theme import Colours
from desktop.words import byte_text

WIDTH = 20  # what can be hit, much wider than the line
CAP = 5.0
STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Down: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: 1}
LONG_STEPS = {Qt.Key.Key_PageDown: -16, Qt.Key.Key_PageUp: 16}
RESET_KEYS = frozenset({Qt.Key.Key_Home, Qt.Key.Key_Delete, Qt.Key.Key_Backspace})


@dataclass(frozen=True, slots=True)
class BudgetMark:
    """A budget as the gauge shows it. `is_own`: set by the person; `is_fixed`: of a running job.

    ground_bytes: what is held already; the line stands at ground and budget together.
    """

    budget_bytes: int
    ground_bytes: int
    is_own: bool = False
    is_fixed: bool = False
    is_too_small: bool = False


class BudgetHandle(QWidget):
    """Tells where it was dragged to, in pixels of its parent, or by how many steps it was moved."""

    moved_to = Signal(float)
    stepped = Signal(int)
    reset_requested = Signal()

    def __init__(self, parent: QWidget, colours: Colours) -> None:
        super().__init__(parent)
        self._colours = colours
        self._mark: BudgetMark | None = None
        self._held_at: float | None = None  # where the line was taken hold of, from its middle
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setAccessibleName(self.tr("Memory budget, line on the gauge"))
        self.hide()

    @property
    def is_dragged(self) -> bool:
        """Whether the pointer has hold of it."""
        return self._held_at is not None

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def show_mark(self, mark: BudgetMark, x: float, height: int) -> None:
        """Stand at `x`, in pixels of the parent, over its `height`."""
        self._mark = mark
        self.setEnabled(not mark.is_fixed)
        self.setCursor(Qt.CursorShape.ArrowCursor if mark.is_fixed else Qt.CursorShape.SizeHorCursor)
        self._describe(mark)
        self.setGeometry(round(x) - WIDTH // 2, 0, WIDTH, height)
        self.show()
        self.update()

    def put_away(self) -> None:
        """There is no budget to show."""
        self._held_at = None
        self.hide()

    def _describe(self, mark: BudgetMark) -> None:
        size = byte_text(mark.budget_bytes)
        if mark.is_fixed:
            text = self.tr("Budget of the running job")
        elif mark.is_too_small:
            text = self.tr("Budget too small for this video: {size}").format(size=size)
        elif mark.is_own:
            text = self.tr("Budget: {size}").format(size=size)
        else:
            text = self.tr("Budget: {size}, automatic").format(size=size)
        self.setAccessibleDescription(text)
        how = self.tr("Drag it or use the arrow keys. Double-click or Home: automatic.")
        self.setToolTip(text if mark.is_fixed else f"{text}\n{how}")

    def _colour(self) -> QColor:
        mark, colours = self._mark, self._colours
        if mark is not None and mark.is_too_small:
            return QColor(colours.danger)
        return QColor(colours.accent_hover if self.is_dragged or self.hasFocus() else colours.text)

    def sizeHint(self) -> QSize:
        return QSize(WIDTH, WIDTH)

    def paintEvent(self, event: QPaintEvent) -> None:
        mark = self._mark
        if mark is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        pen = QPen(self._colour(), 2)
        pen.setCapStyle(Qt.PenCapStyle.FlatCap)
        painter.setPen(pen)
        painter.drawLine(QPointF(WIDTH / 2, 2), QPointF(WIDTH / 2, self.height() - 2))
        self._paint_cap(painter, mark)
        painter.end()

    def _paint_cap(self, painter: QPainter, mark: BudgetMark) -> None:
        """Full for a budget that was set, hollow for one that may move by itself."""
        size = CAP + 1 if self.is_dragged or self.underMouse() or self.hasFocus() else CAP
        middle = QPointF(WIDTH / 2, 1)
        is_full = mark.is_own or mark.is_fixed or mark.is_too_small
        painter.setPen(QPen(self._colour(), 1.5))
        painter.setBrush(self._colour() if is_full else QColor(self._colours.panel))
        corners = [middle + QPointF(-size, 0), middle + QPointF(size, 0), middle + QPointF(0, size + 1)]
        painter.drawPolygon(QPolygonF(corners))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() is not Qt.MouseButton.LeftButton:
            event.ignore()
            return
        self._held_at = event.position().x() - WIDTH / 2
        self.update()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self._held_at is not None:
            self.moved_to.emit(self.mapToParent(event.position()).x() - self._held_at)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._held_at = None
            self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() is Qt.MouseButton.LeftButton:
            self._held_at = None
            self.reset_requested.emit()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key = Qt.Key(event.key())
        if key in STEPS | LONG_STEPS:
            self.stepped.emit((STEPS | LONG_STEPS)[key])
        elif key in RESET_KEYS:
            self.reset_requested.emit()
        else:
            super().keyPressEvent(event)

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()
