"""Offers to save the videos that an earlier Tessera had sampled when it was killed; UI thread."""

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QBoxLayout, QFrame, QHBoxLayout, QPushButton, QVBoxLayout

from desktop.state.interrupted import InterruptedVideos
from desktop.state.job import JobState
from desktop.views.wrapped_label import WrappedLabel
from desktop.words import interrupted_text

ROOM_BESIDE = 640  # width below which the buttons go under the words


class InterruptedBar(QFrame):
    """Hidden while there is nothing to offer, a job runs, or a failure is to be read in its place."""

    decode_requested = Signal()
    visibility_changed = Signal()

    def __init__(self, videos: InterruptedVideos, job: JobState) -> None:
        super().__init__()
        self.setObjectName("interruptedBar")
        self._videos, self._job = videos, job
        self._is_failure_shown = False
        self._title, self._advice = WrappedLabel(), WrappedLabel()
        self._title.setProperty("role", "heading")
        self._advice.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._forget = QPushButton(self.tr("Forget"))
        self._forget.setProperty("role", "link")
        self._forget.setToolTip(self.tr("Never offer this again. What was sampled stays on disk."))
        self._later = QPushButton(self.tr("Later"))
        self._decode = QPushButton(self.tr("Decode now"))
        self._body = QBoxLayout(QBoxLayout.Direction.LeftToRight, self)
        self._lay_out()
        self._decode.clicked.connect(self.decode_requested)
        self._later.clicked.connect(videos.put_off)
        self._forget.clicked.connect(videos.forget)
        videos.changed.connect(self.show_offer)
        job.phase_changed.connect(self.show_offer)
        self.hide()

    def make_way(self, is_failure_shown: bool) -> None:
        """Leave the place to a failure while one is shown."""
        self._is_failure_shown = is_failure_shown
        self.show_offer()

    @Slot()
    def show_offer(self) -> None:
        """Say how many videos there are, or hide."""
        count = self._videos.offered
        if count:
            text = interrupted_text(count)
            self._title.show_text(text.title)
            self._advice.show_text(text.advice)
        self.setVisible(count > 0 and not self._job.is_busy and not self._is_failure_shown)

    def _lay_out(self) -> None:
        words = QVBoxLayout()
        words.setSpacing(4)
        words.addWidget(self._title)
        words.addWidget(self._advice, 1)
        buttons = QHBoxLayout()
        buttons.setSpacing(12)
        for button in (self._forget, self._later, self._decode):
            buttons.addWidget(button)
        self._body.setContentsMargins(16, 12, 12, 12)
        self._body.setSpacing(12)
        self._body.addLayout(words, 1)
        self._body.addLayout(buttons)
        self._body.setAlignment(buttons, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.visibility_changed.emit()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self.visibility_changed.emit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        is_wide = event.size().width() >= ROOM_BESIDE
        self._body.setDirection(QBoxLayout.Direction.LeftToRight if is_wide else QBoxLayout.Direction.TopToBottom)
