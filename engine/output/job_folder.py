"""The folder of one job: its command and its latents, each complete on disk before the next stage begins."""

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from engine.commands import COMMAND_FILE, Command, GenerateVideo, from_json, to_json
from engine.errors import EngineError, ErrorCode
from engine.output.durable import disk_errors, flush_folder, make_folders, write_durably

LATENTS_FILE = "latents.safetensors"
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


@dataclass(frozen=True, slots=True)
class JobFolder:
    """One job's folder; `create` makes it."""

    path: Path

    @classmethod
    def create(cls, jobs: Path, command: Command) -> "JobFolder":
        """A new folder in `jobs`, named by the time, with `command` in it. Raises OUTPUT_NOT_WRITABLE."""
        with disk_errors(jobs):
            make_folders(jobs)
            folder = cls(_new_folder(jobs))
            flush_folder(jobs)
            # A path may hold bytes that are not UTF-8, which Python carries as lone surrogates.
            content = to_json(command).encode("utf-8", "surrogatepass")
            write_durably(folder.path / COMMAND_FILE, lambda file: file.write(content))
        return folder

    @property
    def latents(self) -> Path:
        """Where the sampled latents are once `save_latents` has returned."""
        return self.path / LATENTS_FILE

    def save_latents(self, latents: Tensor) -> Path:
        """Write normalised `latents` [1, z, T, h, w] as float32. Raises OUTPUT_NOT_WRITABLE."""
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


def command_beside(latents: Path) -> GenerateVideo | None:
    """The command that made `latents`, when its `command.json` lies beside them; raises LATENTS_INVALID."""
    file = latents.with_name(COMMAND_FILE)
    if not file.exists():
        return None
    try:
        command = from_json(file.read_text("utf-8", "surrogatepass"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"is not a command: {error}"
        raise EngineError(ErrorCode.LATENTS_INVALID, file=str(file), reason=reason) from error
    return command if isinstance(command, GenerateVideo) else None
