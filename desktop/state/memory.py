"""Memory as the gauge shows it: the latest reading and two minutes of history; lives on the UI thread."""

from collections import deque
from dataclasses import dataclass

from PySide6.QtCore import QObject, Signal, Slot

from engine.memory.vram import VramReason

SAMPLES_PER_SECOND = 4
HISTORY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class MemorySample:
    """One reading in bytes; None is "unknown" and never 0.

    `card` names the card, or is None where the system's memory is shown and `reason` says why. `ours_bytes` is
    this process's share, of which torch's allocator has `allocated_bytes` in live tensors and `reserved_bytes` in all.
    """

    card: str | None
    reason: VramReason | None
    total_bytes: int
    used_bytes: int
    ours_bytes: int | None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None

    @property
    def live_bytes(self) -> int | None:
        """What the job is held to: live tensors on a card, the process's memory on a CPU."""
        return self.allocated_bytes if self.card is not None else self.ours_bytes

    @property
    def others_bytes(self) -> int:
        """What is not known to be ours."""
        ours = max(self.ours_bytes or 0, self.reserved_bytes or 0)
        return max(0, self.used_bytes - ours)


class MemoryState(QObject):
    """Latest sample, history, and what the job promised about it."""

    sample_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sample: MemorySample | None = None
        self.history: deque[MemorySample] = deque(maxlen=HISTORY_SECONDS * SAMPLES_PER_SECOND)
        self.peak_bytes: int | None = None
        self.base_bytes = 0

    @Slot(object)
    def add(self, sample: MemorySample) -> None:
        """Take a reading; a change of source (a card appears or is lost) begins a new history."""
        if self.sample is not None and self.sample.card != sample.card:
            self.history.clear()
        self.sample = sample
        self.history.append(sample)
        if sample.live_bytes is not None:
            self.peak_bytes = max(self.peak_bytes or 0, sample.live_bytes)
        self.sample_changed.emit()

    def start_job(self) -> None:
        """Measure the peak from now. Predictions count the job's tensors, which on a CPU come on top of the process."""
        self.peak_bytes = None
        self.base_bytes = 0
        if self.sample is not None and self.sample.card is None:
            self.base_bytes = self.sample.ours_bytes or 0

    def raise_peak(self, peak_bytes: int) -> None:
        """The engine's own maximum, which four readings a second can miss."""
        self.peak_bytes = max(self.peak_bytes or 0, peak_bytes)
