"""The seed, and a button for another one; UI thread."""

from PySide6.QtCore import QSize, Signal, Slot
from PySide6.QtGui import QValidator
from PySide6.QtWidgets import QHBoxLayout, QLabel, QLineEdit, QToolButton, QWidget

from desktop.icons import icon
from desktop.theme import Colours
from desktop.views.slider_row import LABEL_WIDTH
from engine.sampling.validation import LARGEST_SEED


class SeedRow(QWidget):
    """A line edit, because spin boxes end at 31 bits and seeds do not."""

    seed_edited = Signal(object)  # int: a Qt int would cut it to 32 bits
    reroll_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._field = QLineEdit()
        self._field.setObjectName("seed")
        self._field.setAccessibleName(self.tr("Seed"))
        self._field.setValidator(_SeedValidator(self))
        self._reroll = QToolButton()
        self._reroll.setProperty("role", "boxed")
        self._reroll.setFixedSize(32, 32)
        self._reroll.setIconSize(QSize(18, 18))
        self._reroll.setToolTip(self.tr("Another seed: another video of the same prompt"))
        self._reroll.setAccessibleName(self.tr("Another seed"))
        self._lay_out()
        self._field.textEdited.connect(self._take_text)
        self._reroll.clicked.connect(self.reroll_requested)

    def show_seed(self, seed: int) -> None:
        """Show this seed, unless the field says it already: emptied while it is edited, it says 0."""
        is_emptied = self._field.hasFocus() and not self._field.text()
        if self._field.text() != str(seed) and not (seed == 0 and is_emptied):
            self._field.setText(str(seed))

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._reroll.setIcon(icon("reroll", colours.text_dim))

    def _lay_out(self) -> None:
        label = QLabel(self.tr("Seed"))
        label.setProperty("role", "label")
        label.setFixedWidth(LABEL_WIDTH)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(8)
        row.addWidget(label)
        row.addWidget(self._field, 1)
        row.addWidget(self._reroll)

    @Slot(str)
    def _take_text(self, text: str) -> None:
        self.seed_edited.emit(int(text or "0"))


class _SeedValidator(QValidator):
    """Whole numbers that the engine takes; a field that is left empty says 0."""

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        if not text:
            return QValidator.State.Intermediate, text, position
        valid = text.isascii() and text.isdecimal() and int(text) <= LARGEST_SEED
        return (QValidator.State.Acceptable if valid else QValidator.State.Invalid), text, position

    def fixup(self, text: str) -> str:
        return text or "0"
