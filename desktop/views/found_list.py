"""The list of the files that were found, two lines each; UI thread."""

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QPainter
from PySide6.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from desktop.state.found_items import FoundItems, ItemRole
from desktop.theme import Colours

ROW_HEIGHT = 44
MOST_ROWS = 6.5  # of more files the last one is cut, which says that there are more
INSET = 10
GAP = 12


class FoundList(QListView):
    """As high as its files need, up to some; more are scrolled."""

    details_changed = Signal(str)  # of the chosen file

    def __init__(self, items: FoundItems, colours: Colours) -> None:
        super().__init__()
        self.setObjectName("foundList")
        self.setAccessibleName(self.tr("Files that were found"))
        self._painter = _FoundPainter(colours)
        self.setModel(items)
        self.setItemDelegate(self._painter)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setTabKeyNavigation(False)
        items.refreshed.connect(self._fit)
        self.selectionModel().currentChanged.connect(self._tell_details)
        self._fit()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._painter.colours = colours
        self.viewport().update()

    @Slot(QModelIndex)
    def _tell_details(self, current: QModelIndex) -> None:
        self.details_changed.emit(str(current.data(Qt.ItemDataRole.ToolTipRole) or ""))

    @Slot()
    def _fit(self) -> None:
        rows = self.model().rowCount()
        self.setFixedHeight(round(min(rows, MOST_ROWS) * ROW_HEIGHT) + 2 * self.frameWidth())
        self.setVisible(rows > 0)
        self._tell_details(self.currentIndex())  # a list that begins anew says nothing of the line that was chosen


class _FoundPainter(QStyledItemDelegate):
    """Name and size in the first line, what it is in the second."""

    def __init__(self, colours: Colours) -> None:
        super().__init__()
        self.colours = colours

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        painter.save()
        rect: QRect = option.rect
        if _is_selected(option):
            painter.fillRect(rect, QColor(self.colours.selection))
        inner = rect.adjusted(INSET, 5, -INSET, -5)
        top, bottom = QRect(inner), QRect(inner)
        top.setHeight(inner.height() // 2)
        bottom.setTop(top.bottom() + 1)
        self._paint_name(painter, option, index, top)
        self._paint_what(painter, option, index, bottom)
        painter.restore()

    def _paint_name(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
        line: QRect,
    ) -> None:
        size = str(index.data(ItemRole.SIZE))
        painter.setFont(option.font)
        width = painter.fontMetrics().horizontalAdvance(size)
        painter.setPen(self._pen(option, self.colours.text_dim))
        painter.drawText(line, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, size)
        name = line.adjusted(0, 0, -(width + GAP if width else 0), 0)
        text = painter.fontMetrics().elidedText(str(index.data()), Qt.TextElideMode.ElideMiddle, name.width())
        is_refused = index.data(ItemRole.IS_REFUSED)
        painter.setPen(self._pen(option, self.colours.text_dim if is_refused else self.colours.text))
        painter.drawText(name, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, text)

    def _paint_what(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
        line: QRect,
    ) -> None:
        font = QFont(option.font)
        font.setPixelSize(12)
        painter.setFont(font)
        is_refused = index.data(ItemRole.IS_REFUSED)
        painter.setPen(self._pen(option, self.colours.danger if is_refused else self.colours.text_dim))
        what = str(index.data(ItemRole.WHAT))
        text = painter.fontMetrics().elidedText(what, Qt.TextElideMode.ElideRight, line.width())
        painter.drawText(line, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, text)

    def _pen(self, option: QStyleOptionViewItem, colour: str) -> QColor:
        """`colour`, or on the ground of the chosen line the only one that is read there."""
        return QColor(self.colours.text if _is_selected(option) else colour)

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        return QSize(0, ROW_HEIGHT)


def _is_selected(option: QStyleOptionViewItem) -> bool:
    return bool(option.state & QStyle.StateFlag.State_Selected)
