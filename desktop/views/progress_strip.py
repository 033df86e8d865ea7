"""What the job is doing, how far it is and how long it will take; UI thread."""

from PySide6.QtCore import QSize, QTimer, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from desktop.icons import icon
from desktop.optimise_words import sampling_recut_text
from desktop.product_words import products_text
from desktop.state.job import JobState, Phase
from desktop.state.videos import VideoRow
from desktop.theme import Colours
from desktop.views.elided_label import ElidedLabel
from desktop.views.stage_bar import StageBar
from desktop.words import byte_text, duration_text, stage_name, stage_unit
from engine.events import Stage

REFRESH_MS = 500  # time left counts down between two reports


class ProgressStrip(QWidget):
    """One line of words above the bar of stages; after the job its outcome and the way to the file."""

    def __init__(self, job: JobState, videos: VideoRow, colours: Colours) -> None:
        super().__init__()
        self._job, self._videos = job, videos
        self._title = QLabel()
        self._title.setProperty("role", "heading")
        self._detail = ElidedLabel()
        self._detail.setProperty("role", "dim")
        self._time = QLabel()
        self._time.setProperty("role", "dim")
        self.show_folder = QPushButton(self.tr(" Show in folder"))
        self.show_folder.setIconSize(QSize(18, 18))
        self.show_folder.hide()
        self.go_on = QPushButton(self.tr("Go on"))
        self.go_on.setToolTip(self.tr("Go on sampling from the last step that is kept on disk."))
        self.go_on.hide()
        self._bar = StageBar(job, colours)
        self._readiness = self.tr("Preparing the engine…")
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setInterval(REFRESH_MS)
        self._timer.timeout.connect(self.refresh)
        job.progress_changed.connect(self.refresh)
        job.phase_changed.connect(self._take_phase)
        self.paint_in(colours)
        self.refresh()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        self._bar.paint_in(colours)
        self.show_folder.setIcon(icon("folder", colours.text))

    @Slot()
    def show_engine_loaded(self) -> None:
        """The engine can start at once from now on."""
        self._readiness = self.tr("Ready")
        self.refresh()

    @Slot()
    def show_engine_failed(self) -> None:
        """The engine cannot be loaded; the error bar tells why."""
        self._readiness = self.tr("Not ready")
        self.refresh()

    def _lay_out(self) -> None:
        words = QHBoxLayout()
        words.setSpacing(8)
        words.addWidget(self._title)
        words.addWidget(self._detail, 1)
        words.addWidget(self._time)
        words.addWidget(self.go_on)
        words.addWidget(self.show_folder)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addLayout(words)
        column.addWidget(self._bar)
        self._title.setMinimumHeight(32)

    @Slot(object)
    def _take_phase(self, phase: Phase) -> None:
        if self._job.is_busy:
            self._timer.start()
        else:
            self._timer.stop()
        self.show_folder.setVisible(phase is Phase.FINISHED)
        self.go_on.setVisible(phase is Phase.CANCELLED and self._job.kept_steps > 0 and self._job.latents is None)

    @Slot()
    def refresh(self) -> None:
        """Say what is true now."""
        title, detail = self._words()
        self._title.setText(title)
        self._detail.show_text(detail)
        self._title.setToolTip(products_text(self._job.products))
        self._time.setText(self._time_left() if self._job.phase is Phase.RUNNING else "")

    def _words(self) -> tuple[str, str]:
        match self._job.phase:
            case Phase.IDLE:
                return self._readiness, ""
            case Phase.WAITING:
                return self.tr("Starting…"), ""
            case Phase.RUNNING:
                return self._running_words()
            case Phase.CANCELLING:
                return self.tr("Stopping…"), ""
            case Phase.CANCELLED:
                return self.tr("Stopped"), self._what_is_kept()
            case Phase.FAILED:
                return self.tr("Not finished"), ""
            case Phase.FINISHED:
                return self.tr("Finished"), self._outcome()

    def _what_is_kept(self) -> str:
        if self._job.latents:
            return self.tr("The sampled video is kept.")
        if self._job.kept_steps:
            return self.tr("Sampling is kept up to step {step}.").format(step=self._job.kept_steps)
        return ""

    def _running_words(self) -> tuple[str, str]:
        stage = self._job.stage
        if stage is None:
            return self.tr("Starting…"), ""
        progress, reading = self._job.stages[stage], self._job.reading
        said = [stage_unit(stage, progress.done, progress.total)] if progress.total else []
        if reading is not None:
            said = [
                self.tr("reading {done} of {total}").format(
                    done=byte_text(reading.done_bytes), total=byte_text(reading.total_bytes)
                )
            ]
        if self._job.sampling_recut is not None and stage is Stage.SAMPLE:
            said.append(sampling_recut_text(self._job.sampling_recut))
        if self._videos.total > 1:
            number, total = self._videos.number, self._videos.total
            said.append(self.tr("video {number} of {total}").format(number=number, total=total))
        return stage_name(stage), " · ".join(filter(None, said))

    def _outcome(self) -> str:
        finished = self._job.finished
        if finished is None:
            return ""
        said = self.tr("{file} in {time} · peak {peak}").format(
            file=finished.path.name, time=duration_text(finished.seconds), peak=byte_text(finished.peak_bytes)
        )
        unused = [lora.path.name for lora in self._job.loras if lora.unmatched]
        if unused:
            said += " · " + self.tr("not all of {loras} was understood").format(loras=", ".join(unused))
        return said

    def _time_left(self) -> str:
        stage, job = self._job.seconds_left()
        if job is not None:
            return self.tr("about {time} left").format(time=duration_text(max(1.0, job)))
        if stage is not None:
            return self.tr("about {time} left in this stage").format(time=duration_text(max(1.0, stage)))
        return ""
