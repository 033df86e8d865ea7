"""The object graph of the window and what connects it; UI thread, which also starts and ends the other two."""

from PySide6.QtCore import QObject, Qt, Slot
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QApplication

from desktop.actions import ActionName, make_actions, make_appearance_group, make_menu
from desktop.bridge import EngineBridge
from desktop.closing import Closing
from desktop.failure_words import FailureText, engine_failure_text, failure_text, refusal_text
from desktop.frame_clock import FrameClock
from desktop.job_planner import JobPlanner
from desktop.jobs import Jobs
from desktop.model_chooser import ModelChooser
from desktop.open_latents import LatentsOpener
from desktop.open_media import MediaOpener
from desktop.settings import Settings
from desktop.start_words import refused_drop_text
from desktop.state.canvas_images import CanvasImages
from desktop.state.card import CardState
from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState
from desktop.state.latents_files import LatentsRefusal
from desktop.state.memory import MemoryState
from desktop.state.playback import Playback
from desktop.state.prompt import PromptState
from desktop.state.thumbnails import Thumbnails
from desktop.theme import Appearance, Theme
from desktop.threads import Threads
from desktop.views.main_window import MainWindow
from desktop.worker import LoadEngine
from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.errors import EngineError
from engine.events import JobFailed, JobStarted, StageFinished


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
        self.card = CardState(self.memory, prompt, self.models.library, self)
        self.jobs = Jobs(prompt, self.job, self.images, self.bridge, settings, self.interrupted, self)
        self.thumbnails = Thumbnails(prompt, self)
        self.window = MainWindow(
            prompt,
            self.job,
            self.jobs.videos,
            self.memory,
            self.images,
            self.playback,
            self.theme,
            self.interrupted,
            self.models.library,
            self.card,
            self.thumbnails,
        )
        self.opener = LatentsOpener(self.window, settings, self)
        self.media = MediaOpener(self.window, settings, prompt.start, self)
        self.planner = JobPlanner(prompt, self.job, self.bridge, self)
        self.closing = Closing(self.window, self.job, prompt, settings, self)
        self._is_engine_broken = False
        self._connect_engine()
        self._connect_views()
        self.models.connect_inspector(
            self.threads.inspector, self.models.connect_window(self.window, self.media, self.opener)
        )
        self.thumbnails.connect_reader(self.threads.pictures)
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
        self.jobs.stop()
        self.planner.stop()
        self.models.found.close()
        self.thumbnails.close()
        stopped = self.threads.stop()
        if stopped:
            self.interrupted.let_go()  # its end was not heard any more
        self.images.close()
        return stopped

    @Slot(object)
    def show_problem(self, error: EngineError) -> None:
        """Tell about a failure outside of a job."""
        self.window.error_bar.show_failure(failure_text(error.code, error.details, None), str(error))

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
        bridge.job_planned.connect(job.plan_job)
        bridge.sampling_recut.connect(job.recut_sampling)
        bridge.sampling_kept.connect(job.keep_steps)
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
        jobs = self.jobs
        jobs.beginning.connect(window.panel.take_typed)
        jobs.problem_met.connect(self.show_problem)
        self.closing.stop_requested.connect(jobs.cancel)
        self.closing.closing.connect(self.models.keep_optimise)
        window.panel.generate_requested.connect(jobs.generate)
        window.panel.cancel_requested.connect(jobs.cancel)
        window.progress.show_folder.clicked.connect(jobs.show_result)
        window.progress.go_on.clicked.connect(jobs.go_on)
        window.error_bar.decode_requested.connect(jobs.decode_again)
        window.error_bar.go_on_requested.connect(jobs.go_on)
        window.interrupted_bar.decode_requested.connect(jobs.decode_interrupted)
        window.panel.start.file_requested.connect(self.media.ask)
        self.media.file_refused.connect(self._show_refused_media)
        self.opener.file_chosen.connect(jobs.decode_file)
        self.opener.files_refused.connect(self._show_refusal)
        self.clock.ticked.connect(window.preview.tick)
        self.job.phase_changed.connect(self._take_phase)

    def _connect_actions(self) -> None:
        self.actions = make_actions(self.window)
        slots = {
            ActionName.GENERATE: self.jobs.generate,
            ActionName.CANCEL: self.step_out,
            ActionName.STEP_BACK: self.step_back,
            ActionName.STEP_ON: self.step_on,
            ActionName.REROLL: self.prompt.reroll_seed,
            ActionName.MODELS: self.window.open_models,
            ActionName.OPTIMISE: self.window.open_optimise,
            ActionName.OPEN_LATENTS: self.opener.ask,
            ActionName.SHOW_FOLDER: self.jobs.open_video_folder,
            ActionName.RESTORE: self.prompt.restore_defaults,
            ActionName.QUIT: self.window.close,
        }
        for name, slot in slots.items():
            self.actions[name].triggered.connect(slot)
        appearances = make_appearance_group(self.window, self.theme.appearance)
        appearances.triggered.connect(self.choose_appearance)
        self.window.panel.menu_button.setMenu(make_menu(self.window, self.actions, appearances))

    @Slot()
    def step_out(self) -> None:
        """Close the page that is open, or else stop the running job: one press does one of the two."""
        if self.window.open_page is not None:
            self.window.close_page()
        else:
            self.jobs.cancel()

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

    @Slot(object)
    def _take_phase(self) -> None:
        self.actions[ActionName.OPEN_LATENTS].setEnabled(not self.job.is_busy)
        if not self.job.is_busy:
            self.memory.end_job()

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
        self.window.error_bar.show_failure(engine_failure_text(), technical)

    @Slot(object)
    def _show_refusal(self, refusal: LatentsRefusal) -> None:
        self.window.error_bar.show_failure(refusal_text(refusal), "")

    @Slot(object)
    def _show_refused_media(self) -> None:
        advice = self.tr("Choose another model, or describe the picture in words.")
        self.window.error_bar.show_failure(FailureText(refused_drop_text(self.prompt.start), advice), "")

    @Slot(object)
    def _show_failure(self, event: JobFailed) -> None:
        text = failure_text(event.code, event.details, event.latents, event.kept_steps)
        if self._is_engine_broken:
            text = engine_failure_text()
        has_latents = event.latents is not None
        can_go_on = event.kept_steps > 0 and not has_latents
        self.window.error_bar.show_failure(text, event.technical, can_decode=has_latents, can_go_on=can_go_on)
