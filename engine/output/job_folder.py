"""The folder of one job: its command, its sampling as far as it has come, its latents, each complete on disk; its end.

While the job runs, its process holds a lock on a file of the folder. A job that has the file but neither the lock
nor a recorded end was interrupted. Folders of versions before the lock have no such file and are left alone, unless
a person names one.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cancel import Cancelled
from engine.commands import COMMAND_FILE, Command, GenerateVideo, from_json, to_json
from engine.errors import EngineError, ErrorCode
from engine.output.durable import UNFINISHED, disk_errors, flush_folder, make_folders, write_durably
from engine.output.job_lock import JobLock

if TYPE_CHECKING:
    from torch import Tensor

    from engine.sampling.checkpoint import SamplingState

LATENTS_FILE = "latents.safetensors"
STATE_FILE = "sampling.safetensors"  # while there are no latents: all that the steps to come need of those behind
FRAMES_FILE = "frames.bgrx"
STREAM_FILE = "video.mp4"
# Of a job that runs, or was killed. Not the state of its sampling, which is whole.
HALF_DONE_FILES = (FRAMES_FILE, STREAM_FILE, STATE_FILE + UNFINISHED, LATENTS_FILE + UNFINISHED)
LOCK_FILE = "job.lock"
LOOKS, LOOK_SECONDS = 5, 0.05  # a process that only looks for jobs holds the lock of each for a moment
ENDED_FILE = "ended.json"
COMMAND_ERRORS = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)  # of what is no command
TENSOR = "latents"
FORMAT = "tessera.latents.1"


def default_jobs_folder() -> Path:
    """Where jobs are kept unless told otherwise: `jobs` in this program's folder of the person's data."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        return base / "Tessera" / "jobs"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "Tessera" / "jobs"
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "tessera" / "jobs"


class End(StrEnum):
    """How a job ended, as its folder says."""

    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RESUMED = "resumed"  # it was interrupted, and a later job decodes or has decoded its latents
    FORGOTTEN = "forgotten"  # it was interrupted, and a person wants no video of it


@dataclass(frozen=True, slots=True)
class JobFolder:
    """One job's folder, new or taken up again. The lock is None where the file system knows none."""

    path: Path
    lock: JobLock | None

    @classmethod
    def create(cls, jobs: Path, command: Command) -> "JobFolder":
        """A new folder in `jobs`, named by the time, locked, with `command` in it. Raises OUTPUT_NOT_WRITABLE."""
        with disk_errors(jobs):
            make_folders(jobs)
            path = _new_folder(jobs)
            flush_folder(jobs)
            # Before the command: without one, nobody takes the folder for that of an interrupted job.
            (path / LOCK_FILE).touch()
            lock = JobLock.take(path / LOCK_FILE)
            _write_command(path, command)
        return cls(path, lock)

    @classmethod
    def reopen(cls, path: Path, command: GenerateVideo) -> "JobFolder":
        """The folder of a job that ended without a video, as one that runs: locked, without an end, for `command`.

        `command` is what `command_in` gave, perhaps with another output. Raises OUTPUT_NOT_WRITABLE, also when
        another process has the job; then nothing is changed.
        """
        with disk_errors(path):
            lock = take_lock(path)
            try:
                if command_in(path) != command:
                    _write_command(path, command)
                (path / ENDED_FILE).unlink(missing_ok=True)
                flush_folder(path)
            except BaseException:
                lock.release()
                raise
        return cls(path, lock)

    @contextlib.contextmanager
    def recorded_end(self, output: Path) -> Iterator[None]:
        """Run a job and keep on disk how it ended, then let go of the lock.

        An end that cannot be written down is none of the job's failures. What ends the process at once is no end.
        """
        try:
            yield
        except Cancelled:
            self._end(End.CANCELLED, output)
            raise
        except Exception:
            self._end(End.FAILED, output)
            raise
        else:
            self._end(End.FINISHED, output)
        finally:
            if self.lock is not None:
                self.lock.release()

    def _end(self, end: End, output: Path) -> None:
        with contextlib.suppress(OSError):
            record_end(self.path, end, output)

    @property
    def latents(self) -> Path:
        """Where the sampled latents are once `save_latents` has returned."""
        return self.path / LATENTS_FILE

    @property
    def frames(self) -> Path:
        """Where decoded frames are while the job runs."""
        return self.path / FRAMES_FILE

    @property
    def stream(self) -> Path:
        """Where the video is while its frames are being encoded."""
        return self.path / STREAM_FILE

    @property
    def state(self) -> Path:
        """Where the state of sampling is from the first `keep_state` to `save_latents`."""
        return self.path / STATE_FILE

    def keep_state(self, state: "SamplingState") -> None:
        """Put `state` in the place of the one before; it is on disk when this returns. Raises OUTPUT_NOT_WRITABLE."""
        from engine.sampling.checkpoint import write_state  # the window reads folders of jobs without torch

        write_state(self.state, state)

    def read_state(self, fingerprint: str) -> "SamplingState | None":
        """What was kept last, in host memory; None where nothing was, so that sampling begins at its first step.

        Raises LATENTS_INVALID for a state that is damaged or of a job with another `fingerprint`.
        """
        from engine.sampling.checkpoint import read_state

        return read_state(self.state, fingerprint) if self.state.exists() else None

    def save_latents(self, latents: "Tensor") -> Path:
        """Write normalised `latents` [1, z, T, h, w] as float32; what was kept of sampling goes then.

        Raises OUTPUT_NOT_WRITABLE.
        """
        import torch  # the window reads folders of jobs without it
        from safetensors.torch import save

        tensors = {TENSOR: latents.detach().to("cpu", torch.float32).contiguous()}
        content = save(tensors, {"format": FORMAT})
        with disk_errors(self.latents):
            write_durably(self.latents, lambda file: file.write(content))
        drop_state(self.path)
        return self.latents


def _new_folder(jobs: Path) -> Path:
    name = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(1, 1000):
        with contextlib.suppress(FileExistsError):
            folder = jobs / (name if attempt == 1 else f"{name}-{attempt}")
            folder.mkdir()
            return folder
    raise FileExistsError(name)


def _write_command(folder: Path, command: Command) -> None:
    # A path may hold bytes that are not UTF-8, which Python carries as lone surrogates.
    content = to_json(command).encode("utf-8", "surrogatepass")
    write_durably(folder / COMMAND_FILE, lambda file: file.write(content))


def take_lock(folder: Path) -> JobLock:
    """The lock of a job's `folder`, of any version. Raises OUTPUT_NOT_WRITABLE when another has it, and OSError."""
    if not (folder / LOCK_FILE).exists():
        (folder / LOCK_FILE).touch()
    for _ in range(LOOKS):
        lock = JobLock.take(folder / LOCK_FILE)
        if lock is not None:
            return lock
        time.sleep(LOOK_SECONDS)
    reason = "another process works on this job, or its file system knows no locks"
    raise EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path=str(folder), reason=reason)


def drop_state(folder: Path) -> None:
    """Remove what was kept of sampling; where that is not possible, a later job finds latents beside it and does so."""
    for name in (STATE_FILE, STATE_FILE + UNFINISHED):
        with contextlib.suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def end_of(folder: Path) -> End | None:
    """How the job of `folder` ended; None for one that runs or was interrupted. Raises COMMAND_ERRORS."""
    file = folder / ENDED_FILE
    return End(json.loads(file.read_text("utf-8"))["state"]) if file.exists() else None


def record_end(folder: Path, end: End, output: Path) -> None:
    """Keep in a job's `folder` how it ended; `output` is where its video is or was to be. Raises OSError."""
    content = json.dumps({"state": end, "output": str(output)}).encode()
    write_durably(folder / ENDED_FILE, lambda file: file.write(content))


def command_in(folder: Path) -> GenerateVideo:
    """What the job of `folder` is to make. Raises LATENTS_INVALID where that is not said."""
    command = command_beside(folder / LATENTS_FILE)
    if command is None:
        reason = "is not there, or of a job that does not sample"
        raise EngineError(ErrorCode.LATENTS_INVALID, file=str(folder / COMMAND_FILE), reason=reason)
    return command


def command_beside(latents: Path) -> GenerateVideo | None:
    """The command that made `latents`, when its `command.json` lies beside them; raises LATENTS_INVALID."""
    file = latents.with_name(COMMAND_FILE)
    if not file.exists():
        return None
    try:
        command = from_json(file.read_text("utf-8", "surrogatepass"))
    except COMMAND_ERRORS as error:
        reason = f"is not a command: {error}"
        raise EngineError(ErrorCode.LATENTS_INVALID, file=str(file), reason=reason) from error
    return command if isinstance(command, GenerateVideo) else None
