"""The chosen pictures and clips as they will be fitted into the video, small; lives on the UI thread.

They are read on a thread of their own, for a clip may be long and its drive slow.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal, Slot
from PySide6.QtGui import QImage

from desktop.state.start import FIRST, LAST
from engine.cancel import CancelFlag
from engine.errors import EngineError
from engine.pictures.fit import Target

if TYPE_CHECKING:
    from desktop.picture_reader import PictureReader
    from desktop.state.prompt import PromptState

SETTLE_MS = 80  # a size that is being wheeled through is not fitted to at every notch


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file of a slot and what it is to be fitted to; `is_clip` with the frame to show, and the rate of the video."""

    slot: str
    file: Path
    target: Target
    fps: int

    @property
    def is_clip(self) -> bool:
        """Whether the file is a clip."""
        return self.slot not in (FIRST, LAST)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One request, told from others by its identity; `cancel` is set once nobody waits for it any more."""

    wanted: Wanted
    cancel: CancelFlag = field(default_factory=CancelFlag)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """`image` is what the video will be made from, `size` and `frames` are those of the file itself."""

    image: QImage
    size: tuple[int, int]
    frames: int = 1


class Thumbnails(QObject):
    """Keeps a small picture of every file that is chosen, or why there is none."""

    changed = Signal()
    read_requested = Signal(object)  # Reading

    def __init__(self, prompt: "PromptState", parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._prompt = prompt
        self._readings: dict[str, Reading] = {}
        self._answers: dict[str, Thumbnail | EngineError] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(SETTLE_MS)
        self._timer.timeout.connect(self._ask)
        prompt.start.changed.connect(self._ask)
        prompt.values_changed.connect(self._timer.start)
        prompt.model_changed.connect(self._timer.start)

    def connect_reader(self, reader: "PictureReader") -> None:
        """Have files read on the reader's thread."""
        self.read_requested.connect(reader.read)
        reader.answered.connect(self._take)

    def of(self, slot: str) -> Thumbnail | EngineError | None:
        """The picture of a slot, or why there is none; None while it is being read."""
        return self._answers.get(slot)

    def close(self) -> None:
        """Ask for nothing more, and give up what is being read."""
        self._timer.stop()
        for reading in self._readings.values():
            reading.cancel.set()

    @Slot()
    def _ask(self) -> None:
        for slot in (*self._readings, *self._prompt.start.slots):
            wanted = self._wanted(slot)
            before = self._readings.get(slot)
            if before is not None and before.wanted == wanted:
                continue
            if before is not None:
                before.cancel.set()
            self._begin(slot, wanted)

    def _begin(self, slot: str, wanted: Wanted | None) -> None:
        """What is on show of the same file stays until it is fitted anew."""
        before = self._readings.pop(slot, None)
        if wanted is None or before is None or before.wanted.file != wanted.file:
            self._answers.pop(slot, None)
            self.changed.emit()
        if wanted is not None:
            self._readings[slot] = Reading(wanted)
            self.read_requested.emit(self._readings[slot])

    def _wanted(self, slot: str) -> Wanted | None:
        prompt = self._prompt
        file, values = prompt.start.files.get(slot), prompt.values
        if file is None or slot not in prompt.start.slots or prompt.problem() is not None:
            return None
        target = Target((values.width, values.height), prompt.defaults.size_multiple, prompt.start.use.road)
        return Wanted(slot, file, target, prompt.defaults.fps)

    @Slot(object, object)
    def _take(self, reading: Reading, answer: Thumbnail | EngineError) -> None:
        if self._readings.get(reading.wanted.slot) is reading:
            self._answers[reading.wanted.slot] = answer
            self.changed.emit()
