"""A place for one picture or clip: what was chosen, as it will be fitted; UI thread."""

from pathlib import Path

from PySide6.QtCore import QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QImage,
    QPainter,
    QPainterPath,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QAbstractButton, QHBoxLayout, QToolButton, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.start_words import slot_name
from desktop.state.latents_files import local_files
from desktop.theme import Colours
from desktop.views.drop_hints import accept_copy
from desktop.views.elided_label import ElidedLabel
from desktop.views.wrapped_label import WrappedLabel

HEIGHT = 68
PICTURE_WIDTH = 104
RADIUS = 6.0


class MediaSlot(QWidget):
    """A picture to press and beside it what it is; files may be dropped on all of it."""

    choose_requested = Signal(str)
    clear_requested = Signal(str)
    file_dropped = Signal(str, object)  # slot, Path

    def __init__(self, slot: str, colours: Colours) -> None:
        super().__init__()
        self.setObjectName(f"slot_{slot}")
        self._slot = slot
        self.picture = _PictureButton(slot_name(slot), colours)
        self._title, self._facts, self._problem = ElidedLabel(), ElidedLabel(), WrappedLabel()
        self._facts.setProperty("role", "small")
        self._problem.setProperty("role", "problem")
        self.clear = QToolButton()
        self.clear.setFixedSize(28, 28)
        self.clear.setIconSize(QSize(16, 16))
        self.clear.setAccessibleName(self.tr("Take out: {name}").format(name=slot_name(slot)))
        self.clear.setToolTip(self.tr("Take it out"))
        self.setAcceptDrops(True)
        self._lay_out()
        self.picture.clicked.connect(self._choose)
        self.clear.clicked.connect(self._clear)

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self.picture.paint_in(colours)
        self.clear.setIcon(icon("close", colours.text_dim))

    def show_file(self, file: Path | None, image: QImage | None, facts: str, problem: str) -> None:
        """Show what was chosen, with the picture once it was read; None for an empty slot."""
        self.picture.show_image(image)
        self._title.show_text(slot_name(self._slot) if file is None else file.name)
        self._facts.show_text(facts)
        self._facts.setVisible(bool(facts) and not problem)
        self._problem.show_text(problem)
        self._problem.setVisible(bool(problem))
        self.clear.setVisible(file is not None)

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(2)
        words.addStretch(1)
        for label in (self._title, self._facts, self._problem):
            words.addWidget(label)
        words.addStretch(1)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(self.picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(words, 1)
        row.addWidget(self.clear, 0, Qt.AlignmentFlag.AlignTop)

    def _choose(self) -> None:
        self.choose_requested.emit(self._slot)

    def _clear(self) -> None:
        self.clear_requested.emit(self._slot)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if len(local_files(event.mimeData())) != 1 or not event.possibleActions() & Qt.DropAction.CopyAction:
            event.ignore()
            return
        self.picture.set_welcoming(True)
        accept_copy(event)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        self.picture.set_welcoming(False)

    def dropEvent(self, event: QDropEvent) -> None:
        self.picture.set_welcoming(False)
        accept_copy(event)
        self.file_dropped.emit(self._slot, local_files(event.mimeData())[0])


class _PictureButton(QAbstractButton):
    """The picture in its own proportions, or a dashed field that asks for one."""

    def __init__(self, name: str, colours: Colours) -> None:
        super().__init__()
        self._colours = colours
        self._image: QImage | None = None
        self._is_welcoming = False
        self.setFixedSize(PICTURE_WIDTH, HEIGHT)
        self.setAccessibleName(name)
        self.setToolTip(self.tr("Choose a file, or drop one here"))
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def show_image(self, image: QImage | None) -> None:
        """Show this picture; None for none."""
        self._image = image
        self.update()

    def set_welcoming(self, is_welcoming: bool) -> None:
        """A file is dragged above."""
        self._is_welcoming = is_welcoming
        self.update()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._colours = colours
        self.update()

    def _edge(self) -> QPen:
        is_lit = self.hasFocus() or self._is_welcoming or self.underMouse()
        colour = QColor(self._colours.accent if is_lit else self._colours.border)
        style = Qt.PenStyle.SolidLine if self._image is not None else Qt.PenStyle.DashLine
        return QPen(colour, 2 if self._is_welcoming else 1, style)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        area = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        shape = QPainterPath()
        shape.addRoundedRect(area, RADIUS, RADIUS)
        painter.fillPath(shape, QColor(self._colours.stage))
        if self._image is None:
            self._paint_sign(painter)
        else:
            self._paint_image(painter, shape, self._image)
        painter.setPen(self._edge())
        painter.drawPath(shape)
        painter.end()

    def _paint_sign(self, painter: QPainter) -> None:
        side = 20
        corner = self.rect().center()
        icon("folder", self._colours.text_dim).paint(
            painter, QRect(corner.x() - side // 2 + 1, corner.y() - side // 2 + 1, side, side)
        )

    def _paint_image(self, painter: QPainter, shape: QPainterPath, image: QImage) -> None:
        size = image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        corner = (self.width() - size.width()) // 2, (self.height() - size.height()) // 2
        painter.setClipPath(shape)
        painter.drawImage(QRect(*corner, size.width(), size.height()), image)
        painter.setClipping(False)
