"""What was kept of a sampling is for its own job only: other settings, changed files and damage are told at once."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.commands import COMMAND_FILE, EMBEDDED_MODEL, Command, ContinueVideo, GenerateVideo, from_json, to_json
from engine.errors import ErrorCode
from engine.events import (
    StageStarted,
)
from engine.generation import Given, SamplingSettings
from engine.output.interrupted import interrupted_jobs
from engine.output.job_folder import STATE_FILE
from engine.output.kept_steps import kept_steps
from tests.engine.job_run import Run, assert_failed
from tests.engine.road_models import build_embedded, embedded_config
from tests.engine.road_run import embedded_command, finished, latents_in, save_scene
from tests.engine.stopped_sampling import STEPS, gone_on_with, stopped_after


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return dataclasses.replace(embedded_command(tmp_path), steps=STEPS, seed=5)


def test_how_it_is_fitted_into_memory_may_change(command: GenerateVideo, tmp_path: Path) -> None:
    """A job that was too large for its card goes on with fewer blocks there."""
    folder = stopped_after(command, tmp_path, 4)
    rewrite(folder, sampling=SamplingSettings(resident_blocks=0), fps=10)
    run = gone_on_with(folder, tmp_path / "jobs", command.output)
    assert torch.equal(latents_in(run), latents_in(finished(command, tmp_path / "whole")))


def rewrite(folder: Path, **changes: Any) -> None:  # noqa: ANN401
    file = folder / COMMAND_FILE
    stored: Command = from_json(file.read_text("utf-8"))
    file.write_text(to_json(dataclasses.replace(stored, **changes)), "utf-8")


def assert_refused(folder: Path, jobs: Path) -> None:
    """The state belongs to another job: said before anything is loaded, and nothing of it is lost."""
    run = Run(ContinueVideo(folder, folder.parent.parent / "rest.mp4"), jobs)
    end = assert_failed(run(), ErrorCode.LATENTS_INVALID)
    assert end.details["file"] == str(folder / STATE_FILE)
    assert "other settings" in str(end.details["reason"])
    assert not any(isinstance(event, StageStarted) for event in run.events)
    assert kept_steps(folder / STATE_FILE).done == 4
    assert [job.path for job in interrupted_jobs(jobs)] == [folder]


@pytest.mark.parametrize("change", [{"seed": 6}, {"guidance": 5.0}, {"prompt": "a blue box"}, {"width": 64}], ids=str)
def test_other_settings_are_refused(command: GenerateVideo, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = stopped_after(command, tmp_path, 4)
    rewrite(folder, **change)
    assert_refused(folder, tmp_path / "jobs")


MODEL_FILES = (
    "diffusion_pytorch_model.safetensors", "models_t5_umt5.safetensors", "Wan2.1_VAE.safetensors", "spiece.model",
    "config.json", "Wan2.1_VAE.json",
)  # fmt: skip


def test_changed_files_are_refused(command: GenerateVideo, tmp_path: Path) -> None:
    """Each of those that the latents depend on; and once all are as they were, the job goes on."""
    model = build_embedded(tmp_path / "model", embedded_config())
    picture = tmp_path / "first.png"
    save_scene(picture)
    command = dataclasses.replace(command, model=model, given=Given(picture))
    folder = stopped_after(command, tmp_path, 4)
    for file in (*(model / name for name in MODEL_FILES), picture):
        status = file.stat()
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
        assert_refused(folder, tmp_path / "jobs")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    gone_on_with(folder, tmp_path / "jobs", command.output)


def damage_of(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [damage_of, lambda file: file.write_bytes(b"")])
def test_a_damaged_state_is_told_before_anything_is_loaded(
    command: GenerateVideo, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    folder = stopped_after(command, tmp_path, 4)
    damage(folder / STATE_FILE)
    run = Run(ContinueVideo(folder, tmp_path / "rest.mp4"), tmp_path / "jobs")
    end = assert_failed(run(), ErrorCode.LATENTS_INVALID)
    assert "damaged" in str(end.details["reason"])
    assert not any(isinstance(event, StageStarted) for event in run.events)


def test_a_model_that_is_gone_is_told_and_the_job_stays(command: GenerateVideo, tmp_path: Path) -> None:
    model = shutil.copytree(EMBEDDED_MODEL, tmp_path / "model", ignore=shutil.ignore_patterns("*.py", "*.md"))
    folder = stopped_after(dataclasses.replace(command, model=model), tmp_path, 4)
    before = sorted(file.name for file in folder.iterdir())
    model.rename(tmp_path / "moved")
    run = Run(ContinueVideo(folder, command.output), tmp_path / "jobs")
    assert_failed(run(), ErrorCode.MODEL_NOT_FOUND)
    assert sorted(file.name for file in folder.iterdir()) == before
    assert len(run.events) == 1
