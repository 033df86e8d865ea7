"""Icons drawn from resources/icons in the theme's colours, crisp at every scale; lives on the UI thread."""

from functools import cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QIconEngine, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer
from shiboken6 import isValid

ICON_FOLDER = Path(__file__).resolve().parent.parent / "resources" / "icons"


def icon(name: str, colour: str = "") -> QIcon:
    """The icon `name` with its strokes in `colour` (CSS); without one, in the colours of its file."""
    return QIcon(_SvgIconEngine(name, colour))


@cache
def _renderer(name: str, colour: str) -> QSvgRenderer:
    svg = (ICON_FOLDER / f"{name}.svg").read_text("utf-8")
    return QSvgRenderer(QByteArray(svg.replace("currentColor", colour).encode()))


class _SvgIconEngine(QIconEngine):
    """Draws at the size asked for instead of scaling a picture."""

    def __init__(self, name: str, colour: str) -> None:
        super().__init__()
        self._name = name
        self._colour = colour

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        _renderer(self._name, self._colour).render(painter, QRectF(rect))

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        pixmap = QPixmap(size)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        self.paint(painter, QRect(0, 0, size.width(), size.height()), mode, state)
        painter.end()
        return pixmap

    def clone(self) -> QIconEngine:
        copy = _SvgIconEngine(self._name, self._colour)
        # Qt owns the copy but the binding does not know: the Python half must live until Qt has deleted the other.
        _clones[:] = [*filter(isValid, _clones), copy]
        return copy


_clones: list[QIconEngine] = []
