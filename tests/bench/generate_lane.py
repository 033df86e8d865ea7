"""Times the copies of a block swap and the waiting for them, where they happen: on a card's streams, or on threads.

What the computing waits for at a block is the part of the copies that is not hidden behind it.
"""

import time
from dataclasses import dataclass

import torch

from engine.memory.copy_lanes import Lane, Work, lane_to

Mark = torch.cuda.Event | float
MILLISECONDS = 1e3


@dataclass(frozen=True, slots=True)
class CopyTimes:
    """Seconds in which copies ran, and in which the computing waited for them."""

    copying: float
    waiting: float

    @property
    def hidden_share(self) -> float | None:
        """Of the time of copies, the share in which the device computed; None where nothing was copied."""
        return None if not self.copying else max(0.0, 1 - self.waiting / self.copying)


class TimedLane:
    """Another lane with a mark before and after each copy, and before and after each time the computing waits."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lane: Lane = lane_to(device, is_page_locked=True)
        self._copies: list[tuple[Mark, Mark]] = []
        self._waits: list[tuple[Mark, Mark]] = []

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        """See `Lane`. `send` runs where the copy does, so the marks are on its stream, or on its thread."""

        def timed() -> None:
            began = self._mark()
            send()
            self._copies.append((began, self._mark()))

        self._lane.start(slot, timed, gather)

    def arrive(self, slot: int) -> None:
        """See `Lane`."""
        began = self._mark()
        self._lane.arrive(slot)
        self._waits.append((began, self._mark()))

    def leave(self, slot: int) -> None:
        """See `Lane`."""
        self._lane.leave(slot)

    def close(self) -> None:
        """See `Lane`."""
        self._lane.close()

    def forget(self) -> None:
        """Begin anew."""
        self._copies, self._waits = [], []

    def times(self) -> CopyTimes:
        """What all copies and waits since `forget` took together; waits until the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return CopyTimes(sum(map(seconds_between, self._copies)), sum(map(seconds_between, self._waits)))

    def _mark(self) -> Mark:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def seconds_between(marks: tuple[Mark, Mark]) -> float:
    """From the first to the second of two marks of one kind."""
    began, ended = marks
    if isinstance(began, float) or isinstance(ended, float):
        assert isinstance(began, float)
        assert isinstance(ended, float)
        return ended - began
    return began.elapsed_time(ended) / MILLISECONDS
