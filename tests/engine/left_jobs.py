"""Folders of jobs that came to no video, made without killing anything; shared by their tests."""

import json
from pathlib import Path

import torch

from engine.commands import (
    Command,
    GenerateVideo,
)
from engine.output.interrupted import (
    InterruptedJob,
    interrupted_jobs,
)
from engine.output.job_folder import (
    ENDED_FILE,
    End,
    JobFolder,
    record_end,
)
from tests.engine.sampling_states import state_after


def left_behind(jobs: Path, command: Command, *, sampled: bool = True) -> Path:
    """The folder of a job whose process is gone, made without killing one."""
    folder = JobFolder.create(jobs, command)
    if sampled:
        folder.save_latents(torch.randn(1, 8, 3, 6, 8, generator=torch.Generator().manual_seed(0)))
    assert folder.lock is not None
    folder.lock.release()
    return folder.path


def left_sampling(jobs: Path, command: GenerateVideo, step: int = 12, end: End | None = None) -> Path:
    """The folder of a job that came to an end, or to none, after so many of 40 steps."""
    folder = JobFolder.create(jobs, command)
    folder.keep_state(state_after(step, 40, shape=(1, 8, 3, 6, 8)))
    assert folder.lock is not None
    folder.lock.release()
    if end is not None:
        record_end(folder.path, end, command.output)
    return folder.path


def only(jobs: Path) -> InterruptedJob:
    (job,) = interrupted_jobs(jobs)
    return job


def state_of(folder: Path) -> str:
    return json.loads((folder / ENDED_FILE).read_text())["state"]
