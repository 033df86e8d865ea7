"""Jobs that were killed, failed or stopped without a video: found, claimed, gone on with or forgotten. Any thread.

Torch-free, and made for folders in any state: what is damaged, foreign or in use is left out, and nothing is raised,
except about a job that a person names. A job that was killed before its sampling was kept lost only seconds, and is
left out as well.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from engine.commands import COMMAND_FILE, Command, ContinueVideo, DecodeLatents, GenerateVideo, from_json
from engine.errors import EngineError
from engine.output.durable import disk_errors
from engine.output.job_folder import (
    COMMAND_ERRORS,
    ENDED_FILE,
    HALF_DONE_FILES,
    LATENTS_FILE,
    LOCK_FILE,
    STATE_FILE,
    End,
    drop_state,
    end_of,
    record_end,
    take_lock,
)
from engine.output.job_lock import JobLock
from engine.output.kept_steps import KeptSteps, kept_steps, unusable

INTERRUPTED = (None, End.FAILED)  # ends that nobody wanted
STOPPED = (*INTERRUPTED, End.CANCELLED)
OLD_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class InterruptedJob:
    """A job without a video; `when` it began, since 1970, and how it had its `end`, None for none.

    latents: in its folder `path` or where its command says, None when sampling had not finished; those that lie
    elsewhere may be gone by now, then decoding them says so. kept: how far sampling had come, None when nothing of it
    can be used, for the reason `problem` if there is something.
    """

    path: Path
    latents: Path | None
    command: GenerateVideo | DecodeLatents
    when: float
    kept: KeptSteps | None = None
    problem: str = ""
    end: End | None = None

    @property
    def output(self) -> Path:
        """Where the video was to go."""
        return self.command.output

    @property
    def is_worth_it(self) -> bool:
        """Whether there is something to go on from. The latents of a job that failed are another's to decode."""
        return self.kept is not None or bool(self.problem) or (self.end is None and self.latents is not None)

    def rest(self) -> ContinueVideo | DecodeLatents:
        """The command that makes the video after all, under a name that no file has now."""
        output = free_path(self.output)
        if isinstance(self.command, DecodeLatents):
            return dataclasses.replace(self.command, output=output)
        if self.latents is None:
            return ContinueVideo(self.path, output)
        made = self.command
        return DecodeLatents(self.latents, output, made.model, made.fps, made.decode, parts=made.parts)


class Claim:
    """An interrupted job that nobody else takes up until it is let go by `give_back`, `forget` or `release`."""

    def __init__(self, job: InterruptedJob, lock: JobLock) -> None:
        self._job = job
        self._lock = lock

    def hand_over(self, output: Path) -> None:
        """A job that decodes to `output` has its own folder by now: if it is killed, it is the one to be found.

        What the killed process left half done is of no use to it.
        """
        self._record(End.RESUMED, output)
        for name in (*HALF_DONE_FILES, STATE_FILE):
            with contextlib.suppress(OSError):
                (self._job.path / name).unlink(missing_ok=True)

    def give_back(self) -> None:
        """There is no video after all: the job is interrupted as before."""
        if self._job.end is None:
            with contextlib.suppress(OSError):
                (self._job.path / ENDED_FILE).unlink(missing_ok=True)
        else:
            self._record(self._job.end, self._job.output)
        self.release()

    def forget(self) -> None:
        """A person wants no video; the latents stay, and what was kept of sampling that has not finished goes."""
        self._record(End.FORGOTTEN, self._job.output)
        drop_state(self._job.path)
        self.release()

    def begin_anew(self) -> None:
        """What was kept of sampling is not to be gone on from."""
        drop_state(self._job.path)

    def release(self) -> None:
        """Let go of the job as it is recorded. One that samples on takes its own folder up, and needs it free."""
        self._lock.release()

    def _record(self, end: End, output: Path) -> None:
        # A folder that cannot be written to keeps its job interrupted, which loses nothing.
        with contextlib.suppress(OSError):
            record_end(self._job.path, end, output)


def interrupted_jobs(jobs: Path, ends: Collection[End | None] = INTERRUPTED) -> list[InterruptedJob]:
    """All jobs in `jobs` that ended in one of `ends`, are worth going on with and do not run, oldest first."""
    try:
        folders = [file.parent for file in jobs.glob(f"*/{LOCK_FILE}")]
    except OSError:
        return []
    found = [job for folder in folders if (job := interrupted_job(folder, ends)) is not None]
    return sorted(found, key=lambda job: (job.when, job.path.name))


def interrupted_job(folder: Path, ends: Collection[End | None] = INTERRUPTED) -> InterruptedJob | None:
    """The job of `folder`, if it ended in one of `ends`, is worth going on with and does not run."""
    if not (folder / COMMAND_FILE).exists():  # it is being made
        return None
    # Locked while it is looked at: on Windows, a job that runs could not replace its state meanwhile.
    lock = JobLock.take(folder / LOCK_FILE)
    if lock is None:
        return None
    try:
        end = end_of(folder)
        job = _read(folder, end) if end in ends else None
    except COMMAND_ERRORS:
        return None
    finally:
        lock.release()
    return job if job is not None and job.is_worth_it else None


def named_job(folder: Path) -> InterruptedJob:
    """The job of `folder`, however it ended, of any version. Without latents or a state, its rest is all of it.

    Raises LATENTS_INVALID for what is no job, and OUTPUT_NOT_WRITABLE for one that runs.
    """
    if not (folder / COMMAND_FILE).exists():
        raise unusable(folder / COMMAND_FILE, "is not there")
    with disk_errors(folder):
        lock = take_lock(folder)
    try:
        return _read(folder, end_of(folder))
    except COMMAND_ERRORS as error:
        raise unusable(folder / COMMAND_FILE, f"or the end beside it cannot be read: {error}") from error
    finally:
        lock.release()


def claim(job: InterruptedJob) -> Claim | None:
    """Take `job` up; None when another process does so, or has."""
    lock = JobLock.take(job.path / LOCK_FILE)
    if lock is None:
        return None
    try:
        if end_of(job.path) == job.end:
            return Claim(job, lock)
    except COMMAND_ERRORS:
        pass
    lock.release()
    return None


def settle(command: DecodeLatents) -> None:
    """`command` has made a video: the job that left the latents behind, if it was interrupted, needs none any more."""
    job = interrupted_job(command.latents.parent)
    if job is None or not isinstance(job.command, GenerateVideo) or job.latents != command.latents:
        return
    claimed = claim(job)
    if claimed is not None:
        claimed.hand_over(command.output)
        claimed.release()


def drop_old_states(jobs: Path, now: float) -> None:
    """Remove what jobs kept that a person stopped over a week before `now`, since 1970, and did not go on with."""
    for job in interrupted_jobs(jobs, (End.CANCELLED,)):
        with contextlib.suppress(OSError):
            is_old = now - (job.path / ENDED_FILE).stat().st_mtime > OLD_SECONDS
            claimed = claim(job) if is_old else None
            if claimed is not None:
                claimed.begin_anew()
                claimed.release()


def free_path(path: Path) -> Path:
    """`path`, or where a file has this name, one beside it like `NAME (2).mp4`."""
    numbered = (path.with_stem(f"{path.stem} ({number})") for number in itertools.count(2))
    try:
        return next(name for name in itertools.chain([path], numbered) if not name.exists())
    except OSError:
        return path  # a place that cannot be looked at; writing there says why


def _read(folder: Path, end: End | None) -> InterruptedJob:
    """The job of `folder` that has this `end`. Raises COMMAND_ERRORS."""
    file = folder / COMMAND_FILE
    command, when = _command(file), file.stat().st_mtime
    latents = command.latents if isinstance(command, DecodeLatents) else folder / LATENTS_FILE
    if not (isinstance(command.output, Path) and isinstance(latents, Path)):
        raise TypeError("a damaged command may say null")
    if isinstance(command, DecodeLatents) or latents.is_file():
        return InterruptedJob(folder, latents, command, when, end=end)
    kept, problem = _kept(folder / STATE_FILE)
    return InterruptedJob(folder, None, command, when, kept, problem, end)


def _command(file: Path) -> GenerateVideo | DecodeLatents:
    command: Command = from_json(file.read_text("utf-8", "surrogatepass"))
    if isinstance(command, ContinueVideo):
        raise TypeError("a job that is gone on with keeps the command it began with")
    return command


def _kept(state: Path) -> tuple[KeptSteps | None, str]:
    """How far sampling had come, or why that cannot be used; neither where nothing was kept."""
    if not state.exists():
        return None, ""
    try:
        return kept_steps(state), ""
    except EngineError as error:
        return None, str(error.details["reason"])
