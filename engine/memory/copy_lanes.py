"""Copies that run beside the computing, and who waits for whom. Called on the engine's thread.

A lane copies into slots, one copy after the other. Three promises of its user make that safe: a slot is only computed
with after `arrive`, `leave` is called once the last computing with it has been given, and only then, or never, is the
next copy into it started.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch

Work = Callable[[], None]


class Lane(Protocol):
    """Where copies run."""

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        """Begin to copy into `slot`, no sooner than what `leave` was told of is done.

        gather: what puts the values into memory that `send` copies them from, memory of this slot alone. It does not
        wait for the computing.
        """

    def arrive(self, slot: int) -> None:
        """Computing that is given from now on finds what was copied into `slot`. Raises what the copy raised."""

    def leave(self, slot: int) -> None:
        """Computing that was given until now is the last that uses what is in `slot`."""

    def close(self) -> None:
        """Wait for copies that are under way."""


class SerialLane:
    """Copies at once on the thread of the caller: for what computes at once too."""

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        """See `Lane`."""
        if gather is not None:
            gather()
        send()

    def arrive(self, slot: int) -> None:
        """See `Lane`."""

    def leave(self, slot: int) -> None:
        """See `Lane`."""

    def close(self) -> None:
        """See `Lane`."""


class CardLane:
    """A stream of a CUDA card beside the one that computes; events order the two, and no thread waits but to gather."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._arrived: dict[int, torch.cuda.Event] = {}
        self._left: dict[int, torch.cuda.Event] = {}

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        """See `Lane`."""
        if gather is not None:
            if slot in self._arrived:  # until then the memory that is gathered into is still read
                self._arrived[slot].synchronize()
            gather()
        left = self._left.pop(slot, None)
        if left is not None:
            self._stream.wait_event(left)
        with torch.cuda.stream(self._stream):
            send()
            self._arrived[slot] = self._stream.record_event()

    def arrive(self, slot: int) -> None:
        """See `Lane`."""
        torch.cuda.current_stream(self._device).wait_event(self._arrived[slot])

    def leave(self, slot: int) -> None:
        """See `Lane`."""
        self._left[slot] = torch.cuda.current_stream(self._device).record_event()

    def close(self) -> None:
        """See `Lane`."""
        self._stream.synchronize()


class ThreadLane:
    """Has another lane's copies started by a thread of its own, which waits for the disk and moves host memory."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._copier = ThreadPoolExecutor(1, thread_name_prefix="block-copies")
        self._started: dict[int, Future[None]] = {}

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        """See `Lane`."""
        self._started[slot] = self._copier.submit(self._lane.start, slot, send, gather)

    def arrive(self, slot: int) -> None:
        """See `Lane`."""
        self._started[slot].result()
        self._lane.arrive(slot)

    def leave(self, slot: int) -> None:
        """See `Lane`."""
        self._lane.leave(slot)

    def close(self) -> None:
        """See `Lane`."""
        self._copier.shutdown(cancel_futures=True)
        self._lane.close()


def lane_to(device: torch.device, *, is_page_locked: bool) -> Lane:
    """The lane for copies to `device` from host memory that is page-locked, or that the card cannot reach itself."""
    match device.type:
        case "cuda":
            return CardLane(device) if is_page_locked else ThreadLane(CardLane(device))
        case "cpu":
            return ThreadLane(SerialLane())
        case _:  # a device without values
            return SerialLane()
