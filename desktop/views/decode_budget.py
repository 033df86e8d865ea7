"""A budget of decoding's own, for those who want another than the whole job has; UI thread."""

from dataclasses import replace

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QSpinBox

from desktop.state.decode import DecodeState
from desktop.views.budget_field import LARGEST_BUDGET_MIB, STEP_MIB
from desktop.views.number_field import number_field


class DecodeBudget(QSpinBox):
    """Whole megabytes; 0 is the budget of the job."""

    def __init__(self, state: DecodeState) -> None:
        super().__init__()
        self._state = state
        number_field(self, self.tr("Memory budget of decoding"))
        self.setRange(0, LARGEST_BUDGET_MIB)
        self.setSingleStep(STEP_MIB)
        self.setSuffix(self.tr(" MB"))
        self.setSpecialValueText(self.tr("As the whole video"))
        self.setToolTip(self.tr("The most memory that decoding alone may take. 0: as much as the other stages."))
        self.valueChanged.connect(self._take)
        state.settings_changed.connect(self.refresh)
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Show the state."""
        self.blockSignals(True)  # whole megabytes must not become the budget by being shown
        self.setValue((self._state.values.budget_bytes or 0) >> 20)
        self.blockSignals(False)

    @Slot(int)
    def _take(self, budget_mib: int) -> None:
        self._state.change(replace(self._state.values, budget_bytes=budget_mib << 20 or None))
