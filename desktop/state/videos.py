"""The videos that were asked for together and are made one after the other; lives on the UI thread."""

from dataclasses import replace

from PySide6.QtCore import QObject, Signal, Slot

from desktop.state.job import BUSY, Phase
from engine.commands import GenerateVideo


class VideoRow(QObject):
    """One command and the seeds of the videos to come, whatever becomes of the panel meanwhile.

    A video that fails or is cancelled ends the row: the rest would hardly fare better.
    """

    changed = Signal()
    next_due = Signal()  # one is finished, and there are more

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._command: GenerateVideo | None = None
        self._seeds: list[int] = []
        self.total = 0

    @property
    def number(self) -> int:
        """Which of them is being made, from 1; 0 for none."""
        return self.total - len(self._seeds)

    def begin(self, command: GenerateVideo, seeds: list[int]) -> None:
        """A row of `command` with these seeds is wanted; `take_next` gives the first."""
        self._command, self._seeds, self.total = command, list(seeds), len(seeds)
        self.changed.emit()

    def take_next(self) -> GenerateVideo | None:
        """The command of the next video, which has no place for its file yet, if there is one."""
        if self._command is None or not self._seeds:
            return None
        command = replace(self._command, seed=self._seeds.pop(0))
        self.changed.emit()
        return command

    @Slot()
    def end(self) -> None:
        """Make no more of them."""
        self._command, self._seeds, self.total = None, [], 0
        self.changed.emit()

    @Slot(object)
    def take_phase(self, phase: Phase) -> None:
        """The job that is shown came into another phase."""
        if phase is Phase.FINISHED and self._seeds:
            self.next_due.emit()
        elif phase not in BUSY:
            self.end()
