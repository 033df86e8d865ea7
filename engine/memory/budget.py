"""The peak that a stage really reached: the CUDA allocator's own maximum, or on a CPU this process's memory."""

import os
from types import TracebackType
from typing import Self

import psutil
import torch

from engine.memory.resident_peak import ResidentPeak, watch_resident_memory


def held_bytes(device: torch.device) -> int:
    """What is held now, as `PeakMemory` measures it: live tensors on a card, this process's memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


class PeakMemory:
    """`with PeakMemory(device) as peak: ...`, then `peak.bytes`. Nested use is not supported on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._resident: ResidentPeak | None = None
        self.bytes = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._resident = watch_resident_memory()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        resident = self._resident
        self.bytes = torch.cuda.max_memory_allocated(self._device) if resident is None else resident.stop()


def usable_cores() -> int:
    """Physical cores that this process may run on, at least 1."""
    physical = psutil.cpu_count(logical=False) or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return max(1, min(physical, allowed))
