"""The peak that a stage really reached: the CUDA allocator's own maximum, or on a CPU this process's memory.

Without a card there is no allocator to ask, so the process is watched: a thread samples its resident memory, and
where the operating system's all-time maximum grew during the stage, that exact figure is taken instead.
"""

import os
import sys
import threading
from types import TracebackType
from typing import Self

import psutil
import torch

SAMPLE_SECONDS = 0.02


def held_bytes(device: torch.device) -> int:
    """What is held now, as `PeakMemory` measures it: live tensors on a card, this process's memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """`with PeakMemory(device) as peak: ...`, then `peak.bytes`. Nested use is not supported on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._watch = None if device.type == "cuda" else ResidentPeak()
        self.bytes = 0

    def __enter__(self) -> Self:
        if self._watch is None:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = torch.cuda.max_memory_allocated(self._device) if self._watch is None else self._watch.stop()


class ResidentPeak:
    """Watches the resident memory of this process between `start` and `stop`."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._sampled = 0
        self._before = 0
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._before = self._all_time_maximum()
        self._sampled = self._process.memory_info().rss
        self._thread.start()

    def stop(self) -> int:
        """The peak since `start` in bytes."""
        self._ended.set()
        self._thread.join()
        sampled = max(self._sampled, self._process.memory_info().rss)
        after = self._all_time_maximum()
        return after if after > self._before else sampled

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._sampled = max(self._sampled, self._process.memory_info().rss)

    def _all_time_maximum(self) -> int:
        """The largest resident memory since the process began, as the operating system kept it."""
        if sys.platform == "win32":
            return int(self._process.memory_info().peak_wset)
        import resource  # exists on POSIX only

        maximum = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return maximum if sys.platform == "darwin" else maximum * 1024


def usable_cores() -> int:
    """Physical cores that this process may run on, at least 1."""
    physical = psutil.cpu_count(logical=False) or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))
