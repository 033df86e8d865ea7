"""The object graph of the window and what connects it; UI thread, which also starts and ends the other two."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Qt, QTimer, Slot
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication, QMessageBox

from desktop.actions import ActionName, make_actions, make_appearance_group, make_menu
from desktop.bridge import EngineBridge
from desktop.decode_planner import DecodePlanner
from desktop.frame_clock import FrameClock
from desktop.model_chooser import ModelChooser
from desktop.open_latents import LatentsOpener
from desktop.settings import Settings
from desktop.show_in_folder import show_in_folder
from desktop.state.canvas_images import CanvasImages
from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState, Phase
from desktop.state.latents_files import LatentsRefusal
from desktop.state.memory import MemoryState
from desktop.state.output_path import decoded_video_path, new_video_path
from desktop.state.playback import Playback
from desktop.state.prompt import PromptState
from desktop.theme import Appearance, Theme
from desktop.threads import Threads
from desktop.views.main_window import MainWindow
from desktop.words import engine_failure_text, failure_text, refusal_text
from desktop.worker import LoadEngine
from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import Command, DecodeLatents
from engine.errors import EngineError, ErrorCode
from engine.events import JobFailed, JobStarted, StageFinished

STOP_TIMEOUT_MS = 20_000


class App(QObject):
    """Everything between the engine and the screen. `start` shows the window, `shut_down` ends the threads."""

    def __init__(self, qt_app: QApplication, load: LoadEngine, prompt: PromptState, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.prompt = prompt
        self.theme = Theme(qt_app, self)
        self.theme.choose(settings.appearance)
        self.job, self.memory, self.playback = JobState(self), MemoryState(self), Playback(self)
        self.interrupted = InterruptedVideos(self)
        self.models = ModelChooser(prompt, settings, self)
        canvas, cancel = Canvas(), CancelFlag()
        self.images = CanvasImages(canvas, self)
        self.clock = FrameClock(self.images, self.playback, self)
        self.bridge = EngineBridge(cancel, self)
        self.threads = Threads(load, canvas, cancel, self.bridge)
        self.window = MainWindow(
            prompt, self.job, self.memory, self.images, self.playback, self.theme, self.interrupted, self.models.library
        )
        self.opener = LatentsOpener(self.window, settings, self)
        self.planner = DecodePlanner(prompt, self.job, self.bridge, self)
        self._is_engine_broken = self._is_closing = False
        self._stop_timer = QTimer(self)
        self._stop_timer.setSingleShot(True)
        self._stop_timer.setInterval(STOP_TIMEOUT_MS)
        self._stop_timer.timeout.connect(self._close_now)
        self._connect_engine()
        self._connect_views()
        self.models.connect_inspector(self.threads.inspector, self.models.connect_window(self.window, self.opener))
        self._connect_actions()

    def start(self, *, with_chosen_model: bool = True) -> None:
        """Show the window, with the model that was chosen last; the threads start once it has been painted."""
        self.prompt.restore_words(self.settings.prompt, self.settings.negative_prompt)
        self.models.restore(with_choice=with_chosen_model)
        self.window.restore_geometry(self.settings.geometry)
        self.clock.start()
        self.window.show()
        self.window.panel.focus_prompt()

    def shut_down(self) -> bool:
        """End clock and threads. False when the engine did not stop in time."""
        self.clock.stop()
        self.planner.stop()
        self.models.found.close()
        stopped = self.threads.stop()
        if stopped:
            self.interrupted.let_go()  # its end was not heard any more
        self.images.close()
        return stopped

    def submit(self, command: Command) -> None:
        """Begin a job, unless one is under way."""
        if self.job.is_busy:
            return
        self.images.close()
        self.job.submit(command)
        self.bridge.submit(command)

    def show_problem(self, error: EngineError) -> None:
        """Tell about a failure outside of a job."""
        self.window.error_bar.show_failure(failure_text(error.code, error.details, None), str(error), False)

    def _connect_engine(self) -> None:
        bridge, job = self.bridge, self.job
        bridge.job_started.connect(job.start)
        bridge.job_started.connect(self._begin)
        bridge.stage_started.connect(job.start_stage)
        bridge.stage_progressed.connect(job.progress_stage)
        bridge.weights_read.connect(job.read_weights)
        bridge.lora_matched.connect(job.match_lora)
        bridge.products_chosen.connect(job.choose_products)
        bridge.stage_finished.connect(job.finish_stage)
        bridge.stage_finished.connect(self._raise_peak)
        bridge.decode_planned.connect(job.plan_decode)
        bridge.decode_recut.connect(job.recut_decode)
        bridge.latents_saved.connect(job.save_latents)
        bridge.job_finished.connect(job.finish)
        bridge.job_cancelled.connect(job.end_cancelled)
        bridge.job_failed.connect(job.fail)
        bridge.job_failed.connect(self._show_failure)
        bridge.job_started.connect(self.interrupted.begin)
        job.phase_changed.connect(self.interrupted.take_phase)
        self.threads.monitor.sampled.connect(self.memory.add)
        self.threads.worker.engine_loaded.connect(self.window.progress.show_engine_loaded)
        self.threads.worker.engine_loaded.connect(self.planner.start)
        self.threads.worker.engine_failed.connect(self.planner.give_up)
        self.threads.worker.engine_loaded.connect(self.interrupted.look)
        self.threads.worker.engine_failed.connect(self.window.progress.show_engine_failed)
        self.threads.worker.engine_failed.connect(self._show_engine_failure)

    def _connect_views(self) -> None:
        window = self.window
        # Queued: the threads begin when the paint that is under way has reached the screen.
        window.first_painted.connect(self.threads.start, Qt.ConnectionType.QueuedConnection)
        # Queued as well: a window that is being asked to close does not hear a second request.
        window.close_requested.connect(self.close, Qt.ConnectionType.QueuedConnection)
        window.panel.generate_requested.connect(self.generate)
        window.panel.cancel_requested.connect(self.cancel)
        window.progress.show_folder.clicked.connect(self.show_result)
        window.error_bar.decode_requested.connect(self.decode_again)
        window.interrupted_bar.decode_requested.connect(self.decode_interrupted)
        # Queued: the views hear first that the job before has ended.
        self.interrupted.next_due.connect(self.decode_interrupted, Qt.ConnectionType.QueuedConnection)
        self.opener.file_chosen.connect(self.decode_file)
        self.opener.files_refused.connect(self._show_refusal)
        self.clock.ticked.connect(window.preview.tick)
        self.job.phase_changed.connect(self._take_phase)

    def _connect_actions(self) -> None:
        self.actions = make_actions(self.window)
        slots = {
            ActionName.GENERATE: self.generate,
            ActionName.CANCEL: self.step_out,
            ActionName.STEP_BACK: self.step_back,
            ActionName.STEP_ON: self.step_on,
            ActionName.REROLL: self.prompt.reroll_seed,
            ActionName.MODELS: self.window.open_models,
            ActionName.OPEN_LATENTS: self.opener.ask,
            ActionName.SHOW_FOLDER: self.open_video_folder,
            ActionName.RESTORE: self.prompt.restore_defaults,
            ActionName.QUIT: self.window.close,
        }
        for name, slot in slots.items():
            self.actions[name].triggered.connect(slot)
        appearances = make_appearance_group(self.window, self.theme.appearance)
        appearances.triggered.connect(self.choose_appearance)
        self.window.panel.menu_button.setMenu(make_menu(self.window, self.actions, appearances))

    @Slot()
    def generate(self) -> None:
        """Begin the job that the panel describes."""
        self.window.panel.take_typed()
        is_refused = self.prompt.problem() is not None or self.prompt.decode.is_invalid
        if self.job.is_busy or not self.prompt.has_prompt or is_refused or not self.prompt.is_model_ready:
            return
        try:
            output = self.new_output()
        except EngineError as error:
            self.show_problem(error)
            return
        self.submit(self.prompt.command(output))

    def new_output(self) -> Path:
        """Where the next video goes, in a folder that is there. Raises OUTPUT_NOT_WRITABLE."""
        values = self.prompt.values
        return self._new_path(lambda folder: new_video_path(folder, values.prompt, values.seed))

    def _new_path(self, path_in: Callable[[Path], Path]) -> Path:
        folder = self._video_folder()
        try:
            return path_in(folder)
        except OSError as error:
            raise _not_writable(folder, error) from error

    def _video_folder(self) -> Path:
        folder = self.settings.video_folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(folder, error) from error
        return folder

    @Slot()
    def cancel(self) -> None:
        """Stop the running job."""
        if self.job.is_busy:
            self.job.request_cancel()
            self.bridge.cancel()

    @Slot()
    def step_out(self) -> None:
        """Close the page of models, or else stop the running job: one press does one of the two."""
        if self.window.are_models_open:
            self.window.close_models()
        else:
            self.cancel()

    @Slot()
    def decode_again(self) -> None:
        """Go on from the latents that a failed job left behind."""
        self.window.panel.take_typed()
        command, latents = self.job.command, self.job.latents
        if command is not None and latents is not None:
            decode = self.prompt.decode_settings()
            self.submit(DecodeLatents(latents, command.output, command.model, decode=decode, parts=command.parts))

    @Slot()
    def decode_interrupted(self) -> None:
        """Save the oldest of the videos that an earlier Tessera had sampled when it was killed."""
        command = None if self.job.is_busy or self._is_closing else self.interrupted.take_next()
        if command is not None:
            self.submit(command)

    @Slot(object)
    def decode_file(self, latents: Path) -> None:
        """Decode a file of latents, which may be of an earlier job or of another program."""
        self.window.panel.take_typed()
        if self.job.is_busy:
            return
        try:
            output = self._new_path(lambda folder: decoded_video_path(folder, latents))
        except EngineError as error:
            self.show_problem(error)
            return
        self.submit(self.prompt.decode_command(latents, output))

    @Slot()
    def show_result(self) -> None:
        """Show the finished video in the file browser."""
        if self.job.finished is not None:
            show_in_folder(self.job.finished.path)

    @Slot()
    def open_video_folder(self) -> None:
        """Open the folder that new videos go to."""
        try:
            show_in_folder(self._video_folder())
        except EngineError as error:
            self.show_problem(error)

    @Slot()
    def step_back(self) -> None:
        """One frame back, paused."""
        self.playback.step(-1)

    @Slot()
    def step_on(self) -> None:
        """One frame on, paused."""
        self.playback.step(1)

    @Slot(QAction)
    def choose_appearance(self, action: QAction) -> None:
        """Take the theme that was chosen in the menu, now and at the next start."""
        self.settings.appearance = Appearance(action.data())
        self.theme.choose(self.settings.appearance)

    @Slot()
    def close(self) -> None:
        """Close the window, after asking when a job is under way."""
        if not self.job.is_busy:
            self._close_now()
        elif not self._is_closing:
            self._ask_to_close()

    def _ask_to_close(self) -> None:
        question = QMessageBox(self.window)
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

    @Slot()
    def stop_and_close(self) -> None:
        """Stop the job, if there is one, and close without asking."""
        if not self.job.is_busy:
            self._close_now()
        elif not self._is_closing:
            self._is_closing = True
            self.cancel()
            self._stop_timer.start()

    @Slot()
    def _close_now(self) -> None:
        self._stop_timer.stop()
        self.settings.geometry = self.window.saveGeometry()
        self.settings.prompt = self.prompt.values.prompt
        self.settings.negative_prompt = self.prompt.values.negative_prompt
        self.window.may_close = True
        self.window.close()

    @Slot(object)
    def _take_phase(self, phase: Phase) -> None:
        self.actions[ActionName.OPEN_LATENTS].setEnabled(not self.job.is_busy)
        if not self.job.is_busy:
            self.memory.end_job()
        if self._is_closing and not self.job.is_busy:
            self._close_now()

    @Slot(object)
    def _begin(self, event: JobStarted) -> None:
        self.playback.set_fps(event.fps)
        self.memory.start_job()

    @Slot(object)
    def _raise_peak(self, event: StageFinished) -> None:
        self.memory.raise_peak(event.peak_bytes)

    @Slot(str)
    def _show_engine_failure(self, technical: str) -> None:
        self._is_engine_broken = True
        self.window.error_bar.show_failure(engine_failure_text(), technical, can_decode=False)

    @Slot(object)
    def _show_refusal(self, refusal: LatentsRefusal) -> None:
        self.window.error_bar.show_failure(refusal_text(refusal), "", can_decode=False)

    @Slot(object)
    def _show_failure(self, event: JobFailed) -> None:
        text = failure_text(event.code, event.details, event.latents)
        if self._is_engine_broken:
            text = engine_failure_text()
        self.window.error_bar.show_failure(text, event.technical, can_decode=event.latents is not None)


def _not_writable(path: Path, error: OSError) -> EngineError:
    return EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path=str(path), reason=error.strerror or str(error))
