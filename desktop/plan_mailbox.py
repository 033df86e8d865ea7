"""The one plan that is asked for next; put there by the UI thread, taken by the engine thread."""

from collections import deque

from engine.commands import PlanJob


class PlanMailbox:
    """Holds the latest request: while a line is dragged, those that the engine had no time for are worth nothing."""

    def __init__(self) -> None:
        self._latest: deque[PlanJob] = deque(maxlen=1)  # its ends may be used by two threads at once

    def put(self, request: PlanJob) -> None:
        """Ask for this plan, and no longer for the one before."""
        self._latest.append(request)

    def take(self) -> PlanJob | None:
        """The latest request, once."""
        try:
            return self._latest.pop()
        except IndexError:
            return None

    def clear(self) -> None:
        """Ask for nothing."""
        self._latest.clear()
