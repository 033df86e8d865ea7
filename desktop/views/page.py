"""A page that takes the place of the picture: its title, the way back, and a column that scrolls; UI thread."""

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QToolButton, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.theme import Colours

WIDEST = 880  # beyond this, lines are too long to be followed


class Page(QFrame):
    """Hidden until it is asked for. `column` is to be filled."""

    close_requested = Signal()

    def __init__(self, title: str, close_name: str) -> None:
        super().__init__()
        self.setProperty("role", "page")
        self.close_button = QToolButton()
        self.close_button.setFixedSize(32, 32)
        self.close_button.setIconSize(QSize(18, 18))
        self.close_button.setToolTip(self.tr("Close (Esc)"))
        self.close_button.setAccessibleName(close_name)
        self.close_button.clicked.connect(self.close_requested)
        content = QWidget()
        content.setMaximumWidth(WIDEST)
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(0, 0, 12, 4)
        self.column.setSpacing(8)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(8)
        page.addLayout(self._head(title))
        page.addWidget(_scrolling(content), 1)
        self.hide()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self.close_button.setIcon(icon("close", colours.text_dim))

    def take_focus(self) -> None:
        """Put the focus on what comes first."""
        self.close_button.setFocus()

    def _head(self, title: str) -> QHBoxLayout:
        label = QLabel(title)
        label.setProperty("role", "brand")
        row = QHBoxLayout()
        row.addWidget(label)
        row.addStretch(1)
        row.addWidget(self.close_button)
        return row


def heading(text: str) -> QLabel:
    """The title of a part of a page."""
    label = QLabel(text)
    label.setProperty("role", "heading")
    return label


def _scrolling(content: QWidget) -> QScrollArea:
    area = QScrollArea()
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setWidget(content)
    return area
