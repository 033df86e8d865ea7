"""Reads memory four times a second; lives on the gauge thread, because a driver's answer may take its time."""

import psutil
from PySide6.QtCore import QObject, QTimer, Signal, Slot

from desktop.state.memory import SAMPLES_PER_SECOND, MemorySample
from desktop.worker import AllocatorSource
from engine.memory.vram import VramProbe, VramReason, VramUnavailable

RETRY_SAMPLES = 10 * SAMPLES_PER_SECOND


class VramMonitor(QObject):
    """Emits one `MemorySample` per tick: the card's while there is one, else the system's."""

    sampled = Signal(object)  # MemorySample
    stopped = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._timer: QTimer | None = None
        self._probe: VramProbe | None = None
        self._reason = VramReason.NO_CARD
        self._samples_until_retry = 0
        self._allocator: AllocatorSource | None = None
        self._is_engine_on_cpu = False
        self._process = psutil.Process()

    @Slot()
    def start(self) -> None:
        """Begin reading; the timer is made here because it must live on this thread."""
        self._timer = QTimer(self)
        self._timer.setInterval(1000 // SAMPLES_PER_SECOND)
        self._timer.timeout.connect(self.sample)
        self._timer.start()
        self.sample()

    @Slot()
    def stop(self) -> None:
        """End the timer and the driver session."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.deleteLater()
            self._timer = None
        self._close_probe()
        self.stopped.emit()

    @Slot(object)
    def use_allocator(self, allocator: AllocatorSource | None) -> None:
        """The engine is loaded: from now on watch the card that it computes on, or the system's memory."""
        self._allocator = allocator
        self._is_engine_on_cpu = allocator is None
        if allocator is None:
            if self._probe is not None or self._open_probe():
                self._reason = VramReason.NOT_USED
            self._close_probe()
        elif self._probe is None or self._probe.pci_id != allocator.pci_id:
            self._close_probe()
            self._samples_until_retry = 0

    @Slot()
    def sample(self) -> None:
        """Take one reading and emit it."""
        card = self._sample_card()
        self.sampled.emit(card if card is not None else self._sample_system())

    def _sample_card(self) -> MemorySample | None:
        if self._is_engine_on_cpu or (self._probe is None and not self._open_probe()):
            return None
        assert self._probe is not None
        try:
            memory = self._probe.read()
        except VramUnavailable as error:
            self._give_up(error)
            return None
        torch = self._allocator.read() if self._allocator is not None else None
        return MemorySample(
            card=self._probe.name,
            reason=None,
            total_bytes=memory.total_bytes,
            used_bytes=memory.used_bytes + memory.reserved_bytes,  # what driver and firmware keep nobody can have
            ours_bytes=memory.process_bytes,
            allocated_bytes=torch.allocated_bytes if torch else None,
            reserved_bytes=torch.reserved_bytes if torch else None,
            peak_bytes=torch.peak_bytes if torch else None,
        )

    def _sample_system(self) -> MemorySample:
        memory = psutil.virtual_memory()
        return MemorySample(
            card=None,
            reason=self._reason,
            total_bytes=memory.total,
            used_bytes=memory.total - memory.available,
            ours_bytes=self._process.memory_info().rss,
        )

    def _open_probe(self) -> bool:
        """Connect to the card, at most every ten seconds: a driver may be installed while the window is open."""
        if self._samples_until_retry > 0:
            self._samples_until_retry -= 1
            return False
        try:
            self._probe = VramProbe.open(self._allocator.pci_id if self._allocator is not None else None)
        except VramUnavailable as error:
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: VramUnavailable) -> None:
        self._reason = error.reason
        self._samples_until_retry = RETRY_SAMPLES
        self._close_probe()

    def _close_probe(self) -> None:
        if self._probe is not None:
            self._probe.close()
            self._probe = None
