"""The cancel flag: set from any thread, looked at by the engine between blocks and strips."""

import threading


class Cancelled(Exception):
    """Raised inside the engine when the job was asked to stop."""


class CancelFlag:
    """A request to stop. The engine calls `raise_if_set` at block and strip granularity."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the running job to stop; returns at once."""
        self._event.set()

    def clear(self) -> None:
        """Forget an earlier request, before a new job."""
        self._event.clear()

    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def raise_if_set(self) -> None:
        """Raise `Cancelled` when a stop was asked for."""
        if self._event.is_set():
            raise Cancelled
