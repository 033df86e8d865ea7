"""The folder of one job: its command and its latents, each complete on disk before the next stage begins; its end.

While the job runs, its process holds a lock on a file of the folder. A job that has the file but neither the lock
nor a recorded end was interrupted. Folders of versions before the lock have no such file and are left alone.
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
from engine.output.durable import disk_errors, flush_folder, make_folders, write_durably
from engine.output.job_lock import JobLock

if TYPE_CHECKING:
    from torch import Tensor

LATENTS_FILE = "latents.safetensors"
FRAMES_FILE = "frames.bgrx"
STREAM_FILE = "video.mp4"
HALF_DONE_FILES = (FRAMES_FILE, STREAM_FILE)  # of a job that runs, or was killed
LOCK_FILE = "job.lock"
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
    FORGOTTEN = "forgotten"  # it was interrupted, and a person wants no video of its latents


@dataclass(frozen=True, slots=True)
class JobFolder:
    """One job's folder; `create` makes it. The lock is None where the file system knows none."""

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
            # A path may hold bytes that are not UTF-8, which Python carries as lone surrogates.
            content = to_json(command).encode("utf-8", "surrogatepass")
            write_durably(path / COMMAND_FILE, lambda file: file.write(content))
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

    def save_latents(self, latents: "Tensor") -> Path:
        """Write normalised `latents` [1, z, T, h, w] as float32. Raises OUTPUT_NOT_WRITABLE."""
        import torch  # the window reads folders of jobs without it
        from safetensors.torch import save

        tensors = {TENSOR: latents.detach().to("cpu", torch.float32).contiguous()}
        content = save(tensors, {"format": FORMAT})
        with disk_errors(self.latents):
            write_durably(self.latents, lambda file: file.write(content))
        return self.latents


def _new_folder(jobs: Path) -> Path:
    name = time.strftime("%Y%m%d-%H%M%S")
    for attempt in range(1, 1000):
        with contextlib.suppress(FileExistsError):
            folder = jobs / (name if attempt == 1 else f"{name}-{attempt}")
            folder.mkdir()
            return folder
    raise FileExistsError(name)


def record_end(folder: Path, end: End, output: Path) -> None:
    """Keep in a job's `folder` how it ended; `output` is where its video is or was to be. Raises OSError."""
    content = json.dumps({"state": end, "output": str(output)}).encode()
    write_durably(folder / ENDED_FILE, lambda file: file.write(content))


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
