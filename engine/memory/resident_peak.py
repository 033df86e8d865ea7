"""The most memory of this process that was resident over a stretch of time, for stages that compute on a CPU.

Linux keeps a high-water mark that the process may reset, which is exact. Elsewhere a thread samples, and where the
mark that nobody can reset grew meanwhile, that exact figure is taken instead. Any one thread may start and stop it.
"""

import sys
import threading
from pathlib import Path
from typing import Protocol

import psutil

SAMPLE_SECONDS = 0.02
RESET_HIGH_WATER_MARK = "5"  # proc(5), /proc/pid/clear_refs
CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


class ResidentPeak(Protocol):
    """Watches from its making until `stop`."""

    def stop(self) -> int:
        """The peak since then in bytes; called once."""


def watch_resident_memory() -> ResidentPeak:
    """Begin to watch, exactly where the system can."""
    try:
        return HighWaterMark()
    except OSError:
        return SampledPeak()


class HighWaterMark:
    """The kernel's own mark, reset at the start. Raises OSError where it cannot be."""

    def __init__(self) -> None:
        CLEAR_REFS.write_text(RESET_HIGH_WATER_MARK)

    def stop(self) -> int:
        """The peak since the start in bytes."""
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10  # "VmHWM:    1234 kB"


class SampledPeak:
    """Samples on a thread of its own; a peak shorter than `SAMPLE_SECONDS` is seen only if the process never had a
    higher one before."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._before = self._all_time_maximum()
        self._sampled = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._sample, name="resident-peak", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The peak since the start in bytes."""
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
