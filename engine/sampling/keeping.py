"""When the state of sampling is put on disk: now and then while it goes on, and when it ends before its last step.

Written on the engine's thread, between two steps: a state of 100 MB takes tenths of a second, and how long it took
decides when the next one is due, so that it never costs more than a fiftieth of the time.
"""

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from engine.sampling.checkpoint import SamplingState

KEEP_SECONDS = 20.0  # of work that may be lost; a job that takes less has nothing to be kept
WORK_TO_WRITING = 50.0


def should_keep(step: int, steps: int, seconds_since_last: float, seconds_to_write: float = 0.0) -> bool:
    """Whether the state after `step` of `steps` is due, so long after the last one was kept or sampling began.

    seconds_to_write: what writing the last one took. The state after the last step is the latents themselves.
    """
    return 0 < step < steps and seconds_since_last >= max(KEEP_SECONDS, WORK_TO_WRITING * seconds_to_write)


class Keeping:
    """Keeps the states of one sampling: `with Keeping(folder.keep_state, tell) as keeping: ... keeping.take(state)`.

    When the block is left by a cancel or a failure, the state of the last finished step is kept first; where that
    fails as well, what ended the sampling is told, and the state before it is still there.
    """

    def __init__(
        self,
        write: "Callable[[SamplingState], object]",
        tell: Callable[[int], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`write` returns when the state is on disk; `tell` hears after how many steps it is."""
        self._write = write
        self._tell = tell
        self._clock = clock
        self._latest: SamplingState | None = None
        self._kept_at = clock()
        self._seconds_to_write = 0.0

    def take(self, state: "SamplingState") -> None:
        """A step is done. Raises OUTPUT_NOT_WRITABLE: without room for this there is none for the video either."""
        self._latest = state
        if should_keep(state.step, state.steps, self._clock() - self._kept_at, self._seconds_to_write):
            self._keep(state)

    def _keep(self, state: "SamplingState") -> None:
        began = self._clock()
        self._write(state)
        self._latest = None  # nothing newer than what is on disk
        self._kept_at = self._clock()
        self._seconds_to_write = self._kept_at - began
        self._tell(state.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = self._latest
        if isinstance(error, Exception) and state is not None and 0 < state.step < state.steps:
            with contextlib.suppress(Exception):
                self._keep(state)
