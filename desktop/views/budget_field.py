"""The memory budget of the whole job as a number; UI thread."""

from PySide6.QtCore import Slot
from PySide6.QtWidgets import QSpinBox

from desktop.state.optimise import OptimiseState
from desktop.views.number_field import number_field

LARGEST_BUDGET_MIB = 1 << 20
STEP_MIB = 256


class BudgetField(QSpinBox):
    """Whole megabytes; 0 leaves the budget to the engine."""

    def __init__(self, state: OptimiseState, name: str) -> None:
        super().__init__()
        self._state = state
        number_field(self, name)
        self.setRange(0, LARGEST_BUDGET_MIB)
        self.setSingleStep(STEP_MIB)
        self.setSuffix(self.tr(" MB"))
        self.setSpecialValueText(self.tr("Automatic"))
        self.setToolTip(self.tr("The most memory that any stage may take. 0: as much as is free."))
        self.valueChanged.connect(self._take)
        state.changed.connect(self.refresh)
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Show the state."""
        self.blockSignals(True)  # it shows whole megabytes, which must not become the budget by being shown
        self.setValue((self._state.values.budget_bytes or 0) >> 20)
        self.blockSignals(False)

    @Slot(int)
    def _take(self, budget_mib: int) -> None:
        self._state.set_budget(budget_mib << 20 or None)
