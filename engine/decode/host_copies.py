"""Finished rows on their way from the card to host memory, while the card works on the next. Engine's thread."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SLOTS = 2  # one that is being filled, one that is being read

Land = Callable[[Tensor], None]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A copy under way. `source` is held: the allocator would give its memory to the next layer."""

    source: Tensor
    slot: Tensor
    done: "torch.cuda.Event"
    land: Land


class HostCopies:
    """Copies bytes to page-locked slots on a stream of their own. They land in the order in which they started."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._under_way: deque[_Copy] = deque()
        self._slots: deque[Tensor] = deque()

    def start(self, source: Tensor, land: Land) -> None:
        """Begin to copy `source` (contiguous bytes); `land` is given them later, here or in `finish`, and at once if
        they are in host memory already. What `land` is given is only valid during its call.
        """
        if self._stream is None or source.device.type == "cpu":
            self.finish()
            land(source)
            return
        slot = self._slot(source.numel())
        if slot is None:
            self.finish()
            land(source.cpu())
            return
        self._stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(self._stream):
            slot[: source.numel()].view(source.shape).copy_(source, non_blocking=True)
            done = self._stream.record_event()
        self._under_way.append(_Copy(source, slot, done, land))
        while len(self._under_way) >= SLOTS:
            self._land_one()

    def finish(self) -> None:
        """Wait for all copies, and let them land."""
        while self._under_way:
            self._land_one()

    def _land_one(self) -> None:
        copy = self._under_way.popleft()
        copy.done.synchronize()
        copy.land(copy.slot[: copy.source.numel()].view(copy.source.shape))
        self._slots.append(copy.slot)

    def _slot(self, size: int) -> Tensor | None:
        """At least `size` page-locked bytes, those of an earlier copy where they suffice; None when there are none."""
        slot = self._slots.popleft() if self._slots else None
        if slot is not None and slot.numel() >= size:
            return slot
        del slot
        try:
            return torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError:  # a system gives out only so many, and a slower copy is better than none
            return None
