"""The engine's end of the window: an object that lives on the engine thread and runs one job at a time.

This is the only road by which torch enters the process: `load_engine` imports it, on the engine thread, after the
first paint.
"""

import gc
import traceback
from collections.abc import Callable
from typing import Protocol

from PySide6.QtCore import QObject, Signal, Slot

from desktop.plan_mailbox import PlanMailbox
from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import Command, JobOutlook, PlanJob
from engine.errors import EngineError, ErrorCode
from engine.events import Event, JobFailed


class JobRunner(Protocol):
    """What `engine.engine.Engine` offers."""

    def run(self, command: Command, emit: Callable[[Event], None], canvas: Canvas, cancel: CancelFlag) -> None:
        """Run one job to its end, which is the last event emitted; raises nothing but what `emit` raises."""

    def plan_job(self, request: PlanJob) -> JobOutlook:
        """What a job would take now. Raises EngineError."""


class AllocatorReading(Protocol):
    """What `AllocatorProbe.read` returns."""

    @property
    def allocated_bytes(self) -> int: ...

    @property
    def reserved_bytes(self) -> int: ...

    @property
    def peak_bytes(self) -> int: ...


class AllocatorSource(Protocol):
    """What `engine.memory.allocator.AllocatorProbe` offers."""

    pci_id: str

    def read(self) -> AllocatorReading:
        """The allocator's figures now."""


LoadEngine = Callable[[], tuple[JobRunner, AllocatorSource | None]]


def load_engine() -> tuple[JobRunner, AllocatorSource | None]:
    """Import torch and the engine; takes seconds and holds the interpreter for a third of one."""
    from engine.engine import Engine
    from engine.memory.allocator import open_allocator

    engine, allocator = Engine(), open_allocator()
    # torch leaves half a million objects that live for ever. Walking them is a pause of a sixth of a second for every
    # thread; frozen, later collections pass them by.
    gc.collect()
    gc.freeze()
    return engine, allocator


class EngineWorker(QObject):
    """Runs commands. Its slots block the engine thread while a job runs; only the cancel flag reaches it then."""

    engine_loaded = Signal(object)  # AllocatorSource | None
    engine_failed = Signal(str)  # the technical text
    event_emitted = Signal(object)  # Event
    plan_answered = Signal(object, object)  # PlanJob, JobOutlook | EngineError

    def __init__(self, load: LoadEngine, canvas: Canvas, cancel: CancelFlag, mailbox: PlanMailbox) -> None:
        super().__init__()
        self._load = load
        self._canvas = canvas
        self._cancel = cancel
        self._mailbox = mailbox
        self._engine: JobRunner | None = None
        self._load_failure = ""

    @Slot()
    def load(self) -> None:
        """Import the engine, once. A failure is told at once, and kept to answer every job."""
        if self._engine is not None or self._load_failure:
            return
        try:
            self._engine, allocator = self._load()
        except Exception:
            # Nobody above this slot could handle it: a broken installation must reach the person.
            self._load_failure = traceback.format_exc()
            self.engine_failed.emit(self._load_failure)
            return
        self.engine_loaded.emit(allocator)

    @Slot(object)
    def run(self, command: Command) -> None:
        """Run one job; its last event tells how it ended."""
        self.load()  # a job that was handed over before the first paint comes before the call that loads
        if self._engine is None:
            reason = self._load_failure.strip().rpartition("\n")[2]
            self._emit(JobFailed(ErrorCode.UNEXPECTED, {"reason": reason}, self._load_failure))
            return
        self._engine.run(command, self._emit, self._canvas, self._cancel)

    @Slot()
    def plan(self) -> None:
        """Answer the latest request; what was asked before it is forgotten, and its calls find nothing to do."""
        request = self._mailbox.take()
        if request is not None and self._engine is not None:
            self.plan_answered.emit(request, answer_of(self._engine, request))

    def _emit(self, event: Event) -> None:
        self.event_emitted.emit(event)


def answer_of(engine: JobRunner, request: PlanJob) -> JobOutlook | EngineError:
    """The plan, or why there is none."""
    try:
        return engine.plan_job(request)
    except EngineError as error:
        return error
    except Exception as error:
        # Nobody above could handle it either, and a panel that waits for ever tells nobody.
        return EngineError(ErrorCode.UNEXPECTED, reason=f"{type(error).__name__}: {error}")
