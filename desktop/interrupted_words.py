"""What the window says about videos that were begun and not finished; pure functions for the UI thread."""

from collections.abc import Sequence

from PySide6.QtCore import QCoreApplication

from desktop.failure_words import FailureText
from engine.output.interrupted import InterruptedJob

translate = QCoreApplication.translate  # under this name lupdate finds the strings

JOBS_SHOWN = 3


def interrupted_text(jobs: Sequence[InterruptedJob]) -> FailureText:
    """The sentences for `jobs`, at least one: what is to be decoded, and from which step the others go on."""
    sampling = [job for job in jobs if job.latents is None]
    if not sampling:
        return FailureText(
            _sampled(len(jobs)), translate("words", "What was sampled is safe on disk and only has to be decoded.")
        )
    steps = ", ".join(_steps(job) for job in sampling[:JOBS_SHOWN])
    if len(sampling) > JOBS_SHOWN:
        steps = translate("words", "{some} and {count} more").format(some=steps, count=len(sampling) - JOBS_SHOWN)
    begun = translate("words", "Sampling goes on where it was: {steps}.").format(steps=steps)
    decoded = len(jobs) - len(sampling)
    if decoded:
        begun += " " + translate("words", "Sampled already: {count}.").format(count=decoded)
    return FailureText(_unfinished(len(jobs)), begun)


def _sampled(count: int) -> str:
    if count == 1:
        return translate("words", "A video was sampled but not saved when Tessera was closed.")
    return translate("words", "{count} videos were sampled but not saved when Tessera was closed.").format(count=count)


def _unfinished(count: int) -> str:
    if count == 1:
        return translate("words", "A video was begun and is not finished.")
    return translate("words", "{count} videos were begun and are not finished.").format(count=count)


def _steps(job: InterruptedJob) -> str:
    """How far a job had come; one whose state is damaged begins anew, which makes the same video."""
    if job.kept is None:
        return translate("words", "from the first step, since what was kept is damaged")
    return translate("words", "{done} of {total} steps are done").format(done=job.kept.done, total=job.kept.total)
