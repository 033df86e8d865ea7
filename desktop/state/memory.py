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
    this process's share, of which torch's allocator has `allocated_bytes` in live tensors and `reserved_bytes` in all;
    `peak_bytes` is the allocator's own maximum since the running stage began.
    """

    card: str | None
    reason: VramReason | None
    total_bytes: int
    used_bytes: int
    ours_bytes: int | None
    allocated_bytes: int | None = None
    reserved_bytes: int | None = None
    peak_bytes: int | None = None

    @property
    def live_bytes(self) -> int | None:
        """What the job is held to: live tensors on a card, the process's memory on a CPU."""
        return self.allocated_bytes if self.card is not None else self.ours_bytes

    @property
    def known_ours_bytes(self) -> int:
        """The larger of what the driver and what torch know to be ours; the driver also counts the CUDA context."""
        return max(self.ours_bytes or 0, self.reserved_bytes or 0)

    @property
    def others_bytes(self) -> int:
        """What is not known to be ours."""
        return max(0, self.used_bytes - self.known_ours_bytes)


class MemoryState(QObject):
    """Latest sample, history, and the peak of the job that runs or ran last."""

    sample_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.sample: MemorySample | None = None
        self.history: deque[MemorySample] = deque(maxlen=HISTORY_SECONDS * SAMPLES_PER_SECOND)
        self.peak_bytes: int | None = None
        self._is_measuring = False

    @Slot(object)
    def add(self, sample: MemorySample) -> None:
        """Take a reading; a change of source (a card appears or is lost) begins a new history."""
        if self.sample is not None and self.sample.card != sample.card:
            self.history.clear()
        self.sample = sample
        self.history.append(sample)
        live = [each for each in (sample.peak_bytes, sample.live_bytes) if each is not None]
        if self._is_measuring and live:
            self.raise_peak(max(live))
        self.sample_changed.emit()

    def start_job(self) -> None:
        """Measure the peak from now."""
        self.peak_bytes = None
        self._is_measuring = True

    def end_job(self) -> None:
        """Later readings belong to no job."""
        self._is_measuring = False

    def raise_peak(self, peak_bytes: int) -> None:
        """The engine's own maximum, which four readings a second can miss."""
        self.peak_bytes = max(self.peak_bytes or 0, peak_bytes)
