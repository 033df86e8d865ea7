"""Videos that were begun and not saved when an earlier Tessera was killed; lives on the UI thread."""

from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from desktop.state.job import BUSY, Phase
from engine.commands import ContinueVideo, DecodeLatents
from engine.events import JobStarted
from engine.output.interrupted import Claim, InterruptedJob, claim, interrupted_jobs
from engine.output.job_folder import default_jobs_folder


class InterruptedVideos(QObject):
    """What is offered to be finished, and the one of it that is being finished."""

    changed = Signal()
    next_due = Signal()  # one has its video, and the person wants the others too

    def __init__(self, parent: QObject | None = None, jobs_folder: Path | None = None) -> None:
        super().__init__(parent)
        self._folder = jobs_folder or default_jobs_folder()
        self._jobs: list[InterruptedJob] = []
        self._claim: Claim | None = None
        self._output = Path()
        self._is_decoding = False  # or sampled to its end
        self._is_begun = False  # the job that is shown is one of these

    @property
    def offered(self) -> tuple[InterruptedJob, ...]:
        """The videos that wait for the person to decide, oldest first."""
        return () if self._is_decoding else tuple(self._jobs)

    @Slot()
    def look(self) -> None:
        """Look for them on disk."""
        self._jobs = interrupted_jobs(self._folder)
        self.changed.emit()

    def take_next(self) -> ContinueVideo | DecodeLatents | None:
        """The command for the oldest one that nobody else has taken up meanwhile; None when there is no more."""
        while self._jobs and not self._is_begun:
            job = self._jobs.pop(0)
            claimed = claim(job)
            if claimed is not None:
                if job.problem:  # as the offer says
                    claimed.begin_anew()
                return self._begin_rest(job.rest(), claimed)
        self._set_decoding(False)
        return None

    def _begin_rest(self, command: ContinueVideo | DecodeLatents, claimed: Claim) -> ContinueVideo | DecodeLatents:
        self._is_begun, self._output = True, command.output
        if isinstance(command, ContinueVideo):
            claimed.release()  # sampling goes on in the same folder, which its job takes up itself
        else:
            self._claim = claimed
        self._set_decoding(True)
        return command

    @Slot(object)
    def begin(self, event: JobStarted) -> None:
        """A job has its folder; if it decodes the one taken last, that folder now stands for it."""
        if self._claim is not None:
            self._claim.hand_over(self._output)

    @Slot(object)
    def take_phase(self, phase: Phase) -> None:
        """A job that ended without a video is offered again at the next start, and the others at once."""
        if phase in BUSY or phase is Phase.IDLE:
            return
        has_video = self._is_begun and phase is Phase.FINISHED
        self._is_begun = False
        if has_video and self._claim is not None:
            self._claim.release()
            self._claim = None
        self.let_go()
        if has_video and self._jobs:
            self.next_due.emit()
        else:
            self._set_decoding(False)

    def let_go(self) -> None:
        """Leave the one that is being decoded as it was found."""
        if self._claim is not None:
            self._claim.give_back()
            self._claim = None

    @Slot()
    def put_off(self) -> None:
        """Offer them again at the next start."""
        self._jobs = []
        self.changed.emit()

    @Slot()
    def forget(self) -> None:
        """Never offer them again; finished latents stay, half sampled ones go."""
        for claimed in filter(None, map(claim, self._jobs)):
            claimed.forget()
        self.put_off()

    def _set_decoding(self, is_decoding: bool) -> None:
        self._is_decoding = is_decoding
        self.changed.emit()
