"""Jobs whose process was killed after their latents were safe: found, claimed, decoded or forgotten. Any thread.

Torch-free, and made for folders in any state: what is damaged, foreign or in use is left out, and nothing is raised.
A job that was killed while sampling has nothing to decode and is left out as well.
"""

import contextlib
import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path

from engine.commands import COMMAND_FILE, Command, DecodeLatents, GenerateVideo, from_json
from engine.output.job_folder import (
    COMMAND_ERRORS,
    ENDED_FILE,
    HALF_DONE_FILES,
    LATENTS_FILE,
    LOCK_FILE,
    End,
    record_end,
)
from engine.output.job_lock import JobLock


@dataclass(frozen=True, slots=True)
class InterruptedJob:
    """A job without an end. `latents` are in its folder `path`, or where its command says; `when` it began, since 1970.

    Latents that lie elsewhere may be gone by now; then decoding them says so.
    """

    path: Path
    latents: Path
    command: Command
    when: float

    @property
    def output(self) -> Path:
        """Where the video was to go."""
        return self.command.output

    def decoding(self) -> DecodeLatents:
        """The command that makes the video after all, under a name that no file has now."""
        output = free_path(self.output)
        if isinstance(self.command, DecodeLatents):
            return dataclasses.replace(self.command, output=output)
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
        for name in HALF_DONE_FILES:
            with contextlib.suppress(OSError):
                (self._job.path / name).unlink(missing_ok=True)

    def give_back(self) -> None:
        """There is no video after all: the job is interrupted as before."""
        with contextlib.suppress(OSError):
            (self._job.path / ENDED_FILE).unlink(missing_ok=True)
        self.release()

    def forget(self) -> None:
        """A person wants no video; the latents stay."""
        self._record(End.FORGOTTEN, self._job.output)
        self.release()

    def release(self) -> None:
        """Let go of the job as it is recorded."""
        self._lock.release()

    def _record(self, end: End, output: Path) -> None:
        # A folder that cannot be written to keeps its job interrupted, which loses nothing.
        with contextlib.suppress(OSError):
            record_end(self._job.path, end, output)


def interrupted_jobs(jobs: Path) -> list[InterruptedJob]:
    """All interrupted jobs in the folder `jobs`, oldest first."""
    try:
        folders = [file.parent for file in jobs.glob(f"*/{LOCK_FILE}")]
    except OSError:
        return []
    found = [job for job in map(interrupted_job, folders) if job is not None]
    return sorted(found, key=lambda job: (job.when, job.path.name))


def interrupted_job(folder: Path) -> InterruptedJob | None:
    """The interrupted job of `folder`, if it is one."""
    if (folder / ENDED_FILE).exists() or not (folder / LOCK_FILE).exists():
        return None
    try:
        job = _read(folder)
    except COMMAND_ERRORS:
        return None
    claimed = None if job is None else claim(job)
    if claimed is None:
        return None
    claimed.release()
    return job


def claim(job: InterruptedJob) -> Claim | None:
    """Take `job` up; None when another process does so, or has."""
    lock = JobLock.take(job.path / LOCK_FILE)
    if lock is None:
        return None
    if (job.path / ENDED_FILE).exists():
        lock.release()
        return None
    return Claim(job, lock)


def settle(command: DecodeLatents) -> None:
    """`command` has made a video: the job that left the latents behind, if it was interrupted, needs none any more."""
    job = interrupted_job(command.latents.parent)
    if job is None or not isinstance(job.command, GenerateVideo) or job.latents != command.latents:
        return
    claimed = claim(job)
    if claimed is not None:
        claimed.hand_over(command.output)
        claimed.release()


def free_path(path: Path) -> Path:
    """`path`, or where a file has this name, one beside it like `NAME (2).mp4`."""
    numbered = (path.with_stem(f"{path.stem} ({number})") for number in itertools.count(2))
    try:
        return next(name for name in itertools.chain([path], numbered) if not name.exists())
    except OSError:
        return path  # a place that cannot be looked at; writing there says why


def _read(folder: Path) -> InterruptedJob | None:
    """The job of `folder`, running or not, if it has something to decode. Raises COMMAND_ERRORS."""
    file = folder / COMMAND_FILE
    command = from_json(file.read_text("utf-8", "surrogatepass"))
    latents = command.latents if isinstance(command, DecodeLatents) else folder / LATENTS_FILE
    if not (isinstance(command.output, Path) and isinstance(latents, Path)):
        raise TypeError("a damaged command may say null")
    if isinstance(command, GenerateVideo) and not latents.is_file():
        return None
    return InterruptedJob(folder, latents, command, file.stat().st_mtime)
