"""Offers to save the videos that an earlier Tessera had sampled when it was killed; UI thread."""

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QPushButton, QVBoxLayout

from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState
from desktop.views.message_bar import MessageBar
from desktop.words import interrupted_text


class InterruptedBar(MessageBar):
    """Hidden while there is nothing to offer, a job runs, or a failure is to be read in its place."""

    decode_requested = Signal()

    def __init__(self, videos: InterruptedVideos, job: JobState) -> None:
        forget, later, decode = QPushButton(), QPushButton(), QPushButton()
        super().__init__("interruptedBar", (forget, later, decode))
        self._videos, self._job = videos, job
        self._is_failure_shown = False
        forget.setText(self.tr("Forget"))
        forget.setProperty("role", "link")
        forget.setToolTip(self.tr("Never offer this again. What was sampled stays on disk."))
        later.setText(self.tr("Later"))
        decode.setText(self.tr("Decode now"))
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
        """Say how many videos there are, or hide."""
        count = self._videos.offered
        if count:
            self.say(interrupted_text(count))
        self.setVisible(count > 0 and not self._job.is_busy and not self._is_failure_shown)
