"""Offers to finish the videos that an earlier Tessera had begun when it was killed; UI thread."""

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QPushButton, QVBoxLayout

from desktop.interrupted_words import interrupted_text
from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState
from desktop.views.message_bar import MessageBar


class InterruptedBar(MessageBar):
    """Hidden while there is nothing to offer, a job runs, or a failure is to be read in its place."""

    decode_requested = Signal()

    def __init__(self, videos: InterruptedVideos, job: JobState) -> None:
        forget, later, decode = QPushButton(), QPushButton(), QPushButton()
        super().__init__("interruptedBar", (forget, later, decode))
        self._videos, self._job, self._decode = videos, job, decode
        self._is_failure_shown = False
        forget.setText(self.tr("Forget"))
        forget.setProperty("role", "link")
        forget.setToolTip(self.tr("Never offer this again. Only what was sampled to its end stays on disk."))
        later.setText(self.tr("Later"))
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 12, 12, 12)
        column.addLayout(self.body)
        decode.clicked.connect(self.decode_requested)
        later.clicked.connect(videos.put_off)
        forget.clicked.connect(videos.forget)
        videos.changed.connect(self.show_offer)
        job.phase_changed.connect(self.show_offer)

    def make_way(self, is_failure_shown: bool) -> None:
        """Leave the place to a failure while one is shown."""
        self._is_failure_shown = is_failure_shown
        self.show_offer()

    @Slot()
    def show_offer(self) -> None:
        """Say which videos there are and how far they are, or hide."""
        jobs = self._videos.offered
        if jobs:
            self.say(interrupted_text(jobs))
            is_sampled = all(job.latents is not None for job in jobs)
            self._decode.setText(self.tr("Decode now") if is_sampled else self.tr("Go on now"))
        self.setVisible(bool(jobs) and not self._job.is_busy and not self._is_failure_shown)
