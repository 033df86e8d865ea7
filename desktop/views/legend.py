"""One entry of the gauge's legend: a mark, a name and a figure; UI thread."""

from enum import Enum, auto

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QHBoxLayout, QLabel, QWidget

MARK = 10


class MarkKind(Enum):
    """How the thing is drawn in the bar."""

    AREA = auto()
    DASHED = auto()
    SOLID = auto()
    NONE = auto()


class LegendEntry(QWidget):
    """Name in dim words, figure in plain ones."""

    def __init__(self, kind: MarkKind) -> None:
        super().__init__()
        self._mark, self._is_problem = _Mark(kind), False
        self._name = QLabel()
        self._name.setProperty("role", "small")
        self._figure = QLabel()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(6)
        row.addWidget(self._mark)
        self._mark.setVisible(kind is not MarkKind.NONE)
        row.addWidget(self._name)
        row.addWidget(self._figure)

    def show_figure(self, name: str, figure: str, colour: QColor, *, is_problem: bool = False) -> None:
        """Show the entry; a problem is told in the colour of problems."""
        self._name.setText(name)
        self._figure.setText(figure)
        if is_problem is not self._is_problem:
            self._is_problem = is_problem
            _give_role(self._name, "problem" if is_problem else "small")
            _give_role(self._figure, "problem" if is_problem else "")
        self._mark.colour = colour
        self._mark.update()
        self.setVisible(True)

    @property
    def figure(self) -> str:
        """What stands behind the name."""
        return self._figure.text()


def _give_role(label: QLabel, role: str) -> None:
    label.setProperty("role", role)
    label.style().unpolish(label)  # the style sheet looks at properties only when it polishes
    label.style().polish(label)


class _Mark(QWidget):
    def __init__(self, kind: MarkKind) -> None:
        super().__init__()
        self._kind = kind
        self.colour = QColor(Qt.GlobalColor.transparent)
        self.setFixedSize(MARK, 14)

    def sizeHint(self) -> QSize:
        return QSize(MARK, 14)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._kind is MarkKind.AREA:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(self.colour)
            painter.drawRoundedRect(QRectF(0, 2, MARK, MARK), 3, 3)
        else:
            pen = QPen(self.colour, 2)
            pen.setCapStyle(Qt.PenCapStyle.FlatCap)
            if self._kind is MarkKind.DASHED:
                pen.setDashPattern([1.5, 1.0])
            painter.setPen(pen)
            painter.drawLine(QPointF(MARK / 2, 0), QPointF(MARK / 2, 14))
        painter.end()
