"""How the window closes: at once, or after asking when a job is under way; UI thread."""

from PySide6.QtCore import QObject, Qt, QTimer, Signal, Slot
from PySide6.QtWidgets import QMessageBox

from desktop.settings import Settings
from desktop.state.job import JobState
from desktop.state.prompt import PromptState
from desktop.views.main_window import MainWindow

STOP_TIMEOUT_MS = 20_000


class Closing(QObject):
    """Keeps what is to be kept, and closes once the job has stopped or was waited for long enough."""

    stop_requested = Signal()
    closing = Signal()  # the window is about to close, and what it shows to be kept

    def __init__(
        self,
        window: MainWindow,
        job: JobState,
        prompt: PromptState,
        settings: Settings,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._window, self._job, self._prompt, self._settings = window, job, prompt, settings
        self._is_closing = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(STOP_TIMEOUT_MS)
        self._timer.timeout.connect(self._close_now)
        # Queued: a window that is being asked to close does not hear a second request.
        window.close_requested.connect(self.close, Qt.ConnectionType.QueuedConnection)
        job.phase_changed.connect(self._take_phase)

    @Slot()
    def close(self) -> None:
        """Close the window, after asking when a job is under way."""
        if not self._job.is_busy:
            self._close_now()
        elif not self._is_closing:
            self._ask()

    @Slot()
    def stop_and_close(self) -> None:
        """Stop the job, if there is one, and close without asking."""
        if not self._job.is_busy:
            self._close_now()
        elif not self._is_closing:
            self._is_closing = True
            self.stop_requested.emit()
            self._timer.start()

    def _ask(self) -> None:
        question = QMessageBox(self._window)
        question.setObjectName("closeQuestion")
        question.setWindowTitle("Tessera")
        question.setText(self.tr("A video is being made."))
        question.setInformativeText(self.tr("Stop it and close Tessera?"))
        stop = question.addButton(self.tr("Stop and close"), QMessageBox.ButtonRole.AcceptRole)
        stay = question.addButton(self.tr("Keep working"), QMessageBox.ButtonRole.RejectRole)
        question.setDefaultButton(stay)
        question.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        stop.clicked.connect(self.stop_and_close)
        question.open()

    @Slot(object)
    def _take_phase(self) -> None:
        if self._is_closing and not self._job.is_busy:
            self._close_now()

    @Slot()
    def _close_now(self) -> None:
        self._timer.stop()
        self._settings.geometry = self._window.saveGeometry()
        self._settings.prompt = self._prompt.values.prompt
        self._settings.negative_prompt = self._prompt.values.negative_prompt
        self.closing.emit()
        self._window.may_close = True
        self._window.close()
