"""What the next video takes, in the side panel; opens the page of memory and speed; UI thread."""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QVBoxLayout, QWidget

from desktop.optimise_words import stage_peaks_text, summary_text
from desktop.state.prompt import PromptState
from desktop.views.decode_fields import field_row
from desktop.views.elided_button import ElidedButton


class OptimiseButton(QWidget):
    """One line that is always to be seen."""

    def __init__(self, state: PromptState) -> None:
        super().__init__()
        self._state = state
        self.button = ElidedButton()
        self.button.setObjectName("optimise")
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(field_row(self.tr("Memory"), self.button))
        state.outlook.changed.connect(self.refresh)
        state.optimise.changed.connect(self.refresh)
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Show the latest plan."""
        text = summary_text(self._state.outlook, self._state.optimise)
        self.button.show_text(text)
        self.button.setToolTip(stage_peaks_text(self._state.outlook) or text)
        self.button.setAccessibleName(self.tr("Memory and speed: {summary}").format(summary=text))
