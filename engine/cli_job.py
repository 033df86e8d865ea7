"""Jobs that a terminal or a script waits for: their signals, their events, and the exit codes of their ends."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.cli_events import Audience, ProgressLine, print_json
from engine.commands import Command
from engine.errors import ErrorCode
from engine.events import Event, JobCancelled, JobFailed

FINISHED, FAILED, IMPOSSIBLE, CANCELLED = 0, 1, 2, 130
IMPOSSIBLE_CODES = {
    ErrorCode.NO_PLAN_FITS,
    ErrorCode.INVALID_SIZE,
    ErrorCode.INVALID_FRAMES,
    ErrorCode.INVALID_SETTING,
}


class JobTerminal:
    """Runs jobs one at a time and shows their events; the first Ctrl+C cancels cleanly, a second one ends at once.

    When nobody reads the events any more, the job is cancelled too. Once cancelled, further jobs end before they begin.
    """

    def __init__(self, jobs_folder: Path | None, *, as_json: bool) -> None:
        cancel = CancelFlag()
        cancel_on_signals(cancel)
        from engine.engine import Engine  # only now, so that Ctrl+C is heard while torch is imported

        stream, show = (sys.stdout, print_json) if as_json else (sys.stderr, ProgressLine(sys.stderr).show)
        self._cancel = cancel
        self._audience = Audience(show, stream, cancel)
        self._engine = Engine(jobs_folder)

    def run(self, command: Command, listen: Callable[[Event], None] | None = None) -> int:
        """Run `command`; returns its exit code. `listen` hears every event before it is shown."""
        last: list[Event] = []

        def emit(event: Event) -> None:
            last[:] = [event]
            if listen is not None:
                listen(event)
            self._audience.tell(event)

        self._engine.run(command, emit, Canvas(), self._cancel)
        return exit_code(last[0])


def cancel_on_signals(cancel: CancelFlag) -> None:
    """Let the signals that ask for an end set `cancel`; the next one then acts as it always does."""

    def ask(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        cancel.set()

    for number in stop_signals():
        signal.signal(number, ask)


def stop_signals() -> list[signal.Signals]:
    """Ctrl+C, a request to end, and what comes when the terminal is closed: SIGHUP, on Windows SIGBREAK.

    One of the latter that is ignored stays so: `nohup` means that the job is to outlive its terminal.
    """
    closing = [signal.Signals[name] for name in ("SIGHUP", "SIGBREAK") if name in signal.Signals.__members__]
    heard = [number for number in closing if signal.getsignal(number) is not signal.SIG_IGN]
    return [signal.SIGINT, signal.SIGTERM, *heard]


def exit_code(end: Event) -> int:
    """The exit code that belongs to a job's last event."""
    match end:
        case JobCancelled():
            return CANCELLED
        case JobFailed(code=code):
            return exit_code_of(code)
        case _:
            return FINISHED


def exit_code_of(code: ErrorCode) -> int:
    """2 for what was impossible from the start, 1 for what went wrong."""
    return IMPOSSIBLE if code in IMPOSSIBLE_CODES else FAILED
