"""What lies over the picture while files are dragged above the window; UI thread."""

from PySide6.QtCore import QPoint, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from desktop.icons import icon
from desktop.theme import Colours

RADIUS = 10.0
INSET = 12.0  # from the picture's edge to the dashed line
VEIL = 0.88  # opacity; what is below stays a hint of itself
ICON_SIZE = 36
WORDS_HEIGHT = 44


class DropHint(QWidget):
    """Covers `picture`, hidden until files are dragged. Dragging goes through it."""

    def __init__(self, picture: QWidget, colours: Colours) -> None:
        super().__init__(picture)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._picture = picture
        self._colours = colours
        self._text = ""
        self._is_welcome = True
        self.hide()

    @property
    def text(self) -> str:
        """What it says."""
        return self._text

    def show_hint(self, text: str, *, is_welcome: bool) -> None:
        """Say what a drop would do; `is_welcome` False warns that it would do nothing."""
        self._text, self._is_welcome = text, is_welcome
        self.setGeometry(self._picture.rect())
        self.show()
        self.raise_()
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def _paint_ground(self, painter: QPainter, colour: QColor) -> None:
        veil = QColor(self._colours.stage)
        veil.setAlphaF(VEIL)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(veil)
        painter.drawRoundedRect(QRectF(self.rect()), RADIUS, RADIUS)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(colour, 2, Qt.PenStyle.DashLine))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(INSET, INSET, -INSET, -INSET), RADIUS, RADIUS)

    def _paint_words(self, painter: QPainter, colour: QColor) -> None:
        middle = self.rect().center()
        has_icon = self.height() >= ICON_SIZE + 2 * WORDS_HEIGHT
        top = middle.y() - (0 if has_icon else WORDS_HEIGHT // 2)
        if has_icon:
            sign = icon("folder" if self._is_welcome else "warning", colour.name())
            corner = middle - QPoint(ICON_SIZE // 2, ICON_SIZE + 4)
            sign.paint(painter, QRect(corner, QSize(ICON_SIZE, ICON_SIZE)))
        font = QFont(self.font())
        font.setPixelSize(15)
        painter.setFont(font)
        painter.setPen(QColor(self._colours.text))
        area = QRect(32, top, self.width() - 64, WORDS_HEIGHT)
        painter.drawText(area, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._text)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        colour = QColor(self._colours.accent if self._is_welcome else self._colours.danger)
        self._paint_ground(painter, colour)
        self._paint_words(painter, colour)
        painter.end()
