"""The threads of engine, gauge, model files and pictures with what lives on them; made and ended by the UI thread."""

from PySide6.QtCore import QObject, Qt, QThread, Signal, Slot

from desktop.bridge import EngineBridge
from desktop.model_inspector import ModelInspector
from desktop.picture_reader import PictureReader
from desktop.vram_monitor import VramMonitor
from desktop.worker import EngineWorker, LoadEngine
from engine.cancel import CancelFlag
from engine.canvas import Canvas

GAUGE_TIMEOUT_MS = 5_000
FILES_TIMEOUT_MS = 5_000  # a network drive that does not answer is not waited for
ENGINE_TIMEOUT_MS = 30_000  # closing right after the start waits for the import of torch, which cannot be broken off


class Threads(QObject):
    """Starts the threads after the first paint, and ends them in order with bounded waits."""

    load_requested = Signal()
    monitor_stop_requested = Signal()

    def __init__(self, load: LoadEngine, canvas: Canvas, cancel: CancelFlag, bridge: EngineBridge) -> None:
        super().__init__()
        self._bridge = bridge
        self.worker = EngineWorker(load, canvas, cancel, bridge.mailbox)
        self.monitor = VramMonitor()
        self.inspector = ModelInspector()
        self.pictures = PictureReader()
        self._engine_thread = _named_thread("engine", self)
        self._gauge_thread = _named_thread("gauge", self)
        self._files_thread = _named_thread("files", self)
        self._pictures_thread = _named_thread("pictures", self)
        self.worker.moveToThread(self._engine_thread)
        self.monitor.moveToThread(self._gauge_thread)
        self.inspector.moveToThread(self._files_thread)
        self.pictures.moveToThread(self._pictures_thread)
        self._connect()

    def _connect(self) -> None:
        self.load_requested.connect(self.worker.load)
        self._bridge.command_submitted.connect(self.worker.run)
        self._bridge.plan_requested.connect(self.worker.plan)
        self.worker.event_emitted.connect(self._bridge.handle)
        self.worker.plan_answered.connect(self._bridge.handle_plan)
        self.worker.engine_loaded.connect(self.monitor.use_allocator)
        self._gauge_thread.started.connect(self.monitor.start)
        self.monitor_stop_requested.connect(self.monitor.stop)
        # Direct: `quit` is thread-safe, and the UI thread is waiting by then and would not run a queued call.
        self.monitor.stopped.connect(self._gauge_thread.quit, Qt.ConnectionType.DirectConnection)

    @Slot()
    def start(self) -> None:
        """Start them, and import the engine on its own."""
        self._gauge_thread.start(QThread.Priority.LowPriority)
        self._files_thread.start(QThread.Priority.LowPriority)
        self._pictures_thread.start(QThread.Priority.LowPriority)
        self._engine_thread.start()
        self.load_requested.emit()

    def stop(self) -> bool:
        """End them; False when one did not end in time, and then the process must not run its destructors."""
        self._bridge.cancel()
        self._engine_thread.quit()
        self._files_thread.quit()
        self._pictures_thread.quit()
        self.monitor_stop_requested.emit()
        gauge_ended = not self._gauge_thread.isRunning() or self._gauge_thread.wait(GAUGE_TIMEOUT_MS)
        engine_ended = self._engine_thread.wait(ENGINE_TIMEOUT_MS)
        # After the engine's: a look into a file of torch.save may wait for the same import.
        files_ended = self._files_thread.wait(FILES_TIMEOUT_MS)
        return self._pictures_thread.wait(FILES_TIMEOUT_MS) and files_ended and engine_ended and gauge_ended


def _named_thread(name: str, parent: QObject) -> QThread:
    thread = QThread(parent)
    thread.setObjectName(name)
    return thread
