"""The videos that were asked for together and are made one after the other; lives on the UI thread."""

from PySide6.QtCore import QObject, Signal, Slot

from desktop.state.job import BUSY, Phase


class VideoRow(QObject):
    """Seeds of the videos to come. One that fails or is cancelled ends the row: the rest would hardly fare better."""

    changed = Signal()
    next_due = Signal()  # one is finished, and there are more

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._seeds: list[int] = []
        self.total = 0

    @property
    def number(self) -> int:
        """Which of them is being made, from 1; 0 for none."""
        return self.total - len(self._seeds)

    def begin(self, seeds: list[int]) -> None:
        """A row with these seeds is wanted; `take_next` gives the first."""
        self._seeds, self.total = list(seeds), len(seeds)
        self.changed.emit()

    def take_next(self) -> int | None:
        """The seed of the next video, if there is one."""
        seed = self._seeds.pop(0) if self._seeds else None
        self.changed.emit()
        return seed

    @Slot()
    def end(self) -> None:
        """Make no more of them."""
        self._seeds, self.total = [], 0
        self.changed.emit()

    @Slot(object)
    def take_phase(self, phase: Phase) -> None:
        """The job that is shown came into another phase."""
        if phase is Phase.FINISHED and self._seeds:
            self.next_due.emit()
        elif phase not in BUSY and phase is not Phase.FINISHED:
            self.end()
