"""How jobs begin and are stopped: from the panel, from files, and from what earlier jobs left; UI thread."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot

from desktop.bridge import EngineBridge
from desktop.settings import Settings
from desktop.show_in_folder import show_in_folder
from desktop.state.canvas_images import CanvasImages
from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState
from desktop.state.output_path import decoded_video_path, new_video_path
from desktop.state.prompt import PromptState
from desktop.state.videos import VideoRow
from engine.commands import Command, ContinueVideo, DecodeLatents, GenerateVideo
from engine.errors import EngineError, ErrorCode


class Jobs(QObject):
    """Hands commands to the engine, one at a time, with a place for what they make."""

    beginning = Signal()  # the panel's numbers are about to be read
    problem_met = Signal(object)  # EngineError, of what never became a job

    def __init__(
        self,
        prompt: PromptState,
        job: JobState,
        images: CanvasImages,
        bridge: EngineBridge,
        settings: Settings,
        interrupted: InterruptedVideos,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._prompt, self._job, self._images, self._bridge = prompt, job, images, bridge
        self._settings, self._interrupted = settings, interrupted
        self.videos = VideoRow(self)
        self._may_begin = True
        job.phase_changed.connect(self.videos.take_phase)
        # Queued: the views hear first that the job before has ended.
        self.videos.next_due.connect(self._make_next, Qt.ConnectionType.QueuedConnection)
        interrupted.next_due.connect(self.decode_interrupted, Qt.ConnectionType.QueuedConnection)

    def submit(self, command: Command) -> None:
        """Begin a job, unless one is under way."""
        if self._job.is_busy or not self._may_begin:
            return
        self._images.close()
        self._job.submit(command)
        self._bridge.submit(command)

    def stop(self) -> None:
        """Begin no more, whatever is still due."""
        self._may_begin = False

    @Slot()
    def generate(self) -> None:
        """Begin the videos that the panel describes."""
        self.beginning.emit()
        if not self._job.is_busy and self._prompt.can_generate:
            self.videos.begin(self._prompt.command(Path()), self._prompt.seeds())
            self._make_next()

    @Slot()
    def cancel(self) -> None:
        """Stop the running job, and make none of those that were to follow."""
        if self._job.is_busy:
            self.videos.end()
            self._job.request_cancel()
            self._bridge.cancel()

    @Slot()
    def decode_again(self) -> None:
        """Go on from the latents that a failed job left behind."""
        self.beginning.emit()
        command, latents = self._job.command, self._job.latents
        if command is None or latents is None:
            return
        again = DecodeLatents(latents, command.output, decode=self._prompt.decode_settings())
        if isinstance(command, GenerateVideo | DecodeLatents):
            again = replace(again, model=command.model, parts=command.parts)
        self.submit(again)

    @Slot()
    def go_on(self) -> None:
        """Go on sampling from the step that a stopped or failed job has kept."""
        command, started = self._job.command, self._job.started
        if command is not None and started is not None and self._job.kept_steps:
            self.submit(ContinueVideo(started.job_folder, command.output))

    @Slot()
    def decode_interrupted(self) -> None:
        """Finish the oldest of the videos that an earlier Tessera had begun when it was killed."""
        command = None if self._job.is_busy or not self._may_begin else self._interrupted.take_next()
        if command is not None:
            self.submit(command)

    @Slot(object)
    def decode_file(self, latents: Path) -> None:
        """Decode a file of latents, which may be of an earlier job or of another program."""
        self.beginning.emit()
        if self._job.is_busy:
            return
        try:
            output = self._new_path(lambda folder: decoded_video_path(folder, latents))
        except EngineError as error:
            self.problem_met.emit(error)
            return
        self.submit(self._prompt.decode_command(latents, output))

    @Slot()
    def show_result(self) -> None:
        """Show the finished video in the file browser."""
        if self._job.finished is not None:
            show_in_folder(self._job.finished.path)

    @Slot()
    def open_video_folder(self) -> None:
        """Open the folder that new videos go to."""
        try:
            show_in_folder(self._video_folder())
        except EngineError as error:
            self.problem_met.emit(error)

    def new_output(self, command: GenerateVideo) -> Path:
        """Where a new video goes, in a folder that is there. Raises OUTPUT_NOT_WRITABLE."""
        return self._new_path(lambda folder: new_video_path(folder, command.prompt, command.seed))

    @Slot()
    def _make_next(self) -> None:
        command = None if self._job.is_busy else self.videos.take_next()
        if command is None:
            return
        try:
            output = self.new_output(command)
        except EngineError as error:
            self.videos.end()
            self.problem_met.emit(error)
            return
        self.submit(replace(command, output=output))

    def _new_path(self, path_in: Callable[[Path], Path]) -> Path:
        folder = self._video_folder()
        try:
            return path_in(folder)
        except OSError as error:
            raise _not_writable(folder, error) from error

    def _video_folder(self) -> Path:
        folder = self._settings.video_folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(folder, error) from error
        return folder


def _not_writable(path: Path, error: OSError) -> EngineError:
    return EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path=str(path), reason=error.strerror or str(error))
