"""Sampling that was killed, cancelled or failed goes on from its last kept step, to the same latents to the bit."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.commands import ContinueVideo, GenerateVideo
from engine.denoise.streaming import Denoiser
from engine.events import (
    Event,
    JobCancelled,
    LatentsSaved,
    SamplingKept,
)
from engine.generation import Given, SamplingSettings, Solver
from engine.model_choice import ModelParts
from engine.output.interrupted import interrupted_jobs
from engine.output.job_folder import LATENTS_FILE, STATE_FILE
from engine.output.kept_steps import kept_steps
from tests.engine.cli_process import engine as engine_cli
from tests.engine.job_run import Run
from tests.engine.killed_sampling import kill_after
from tests.engine.road_models import build_experts, embedded_config
from tests.engine.road_run import embedded_command, finished, job_folder_of, latents_in, save_scene
from tests.engine.stopped_sampling import STEPS, gone_on_with, steps_told, stopped_after
from tests.engine.video_reading import read_frames


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return dataclasses.replace(embedded_command(tmp_path), steps=STEPS, seed=5)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_job_comes_to_the_same_video(command: GenerateVideo, tmp_path: Path) -> None:
    """Killed twice, in the middle of whatever it did then; the second time while it was gone on with."""
    jobs = tmp_path / "jobs"
    folder = kill_after(command, jobs, 3, 0.07)
    first = kept_steps(folder / STATE_FILE).done
    assert kill_after(ContinueVideo(folder, command.output), jobs, first + 3, 0.11) == folder
    second = kept_steps(folder / STATE_FILE).done
    assert 3 <= first < second < STEPS
    (job,) = interrupted_jobs(jobs)
    run = gone_on_with(job.path, jobs, tmp_path / "rest.mp4")
    assert steps_told(run) == list(range(second, STEPS + 1))
    whole = finished(command, tmp_path / "whole")
    assert torch.equal(latents_in(run), latents_in(whole))
    again, video = (read_frames(file, 96, 64) for file in (tmp_path / "rest.mp4", command.output))
    assert (again == video).all()
    assert not (folder / STATE_FILE).exists()
    assert interrupted_jobs(jobs) == []


WAYS: list[dict[str, Any]] = [
    {"solver": Solver.DPMPP_2M},
    {"solver": Solver.LCM, "guidance": 1.0},
    {"solver": Solver.EULER, "sampling": SamplingSettings(step_cache=0.3)},
    {"sampling": SamplingSettings(step_cache=0.3, resident_blocks=2)},
]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_solver_remembers(command: GenerateVideo, tmp_path: Path, way: dict[str, Any]) -> None:
    command = dataclasses.replace(command, **way)
    folder = kill_after(command, tmp_path / "jobs", 6, 0.03)
    run = gone_on_with(folder, tmp_path / "jobs", command.output)
    assert 0 < steps_told(run)[0] < STEPS
    assert torch.equal(latents_in(run), latents_in(finished(command, tmp_path / "whole")))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_was_cancelled_goes_on(command: GenerateVideo, tmp_path: Path, way: dict[str, Any]) -> None:
    command = dataclasses.replace(command, **way)
    folder = stopped_after(command, tmp_path, 7)
    run = gone_on_with(folder, tmp_path / "jobs", command.output)
    assert torch.equal(latents_in(run), latents_in(finished(command, tmp_path / "whole")))


def test_what_the_step_cache_knows_is_kept(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the job would compute steps anew that it had not computed, and come to other latents."""
    passes, velocity = [0], Denoiser.velocity

    def counted(*arguments: Any, **options: Any) -> Tensor:  # noqa: ANN401
        found = velocity(*arguments, **options)
        passes[0] += 1  # of those that came to their end
        return found

    monkeypatch.setattr(Denoiser, "velocity", counted)
    command = dataclasses.replace(command, sampling=SamplingSettings(step_cache=0.3))
    finished(command, tmp_path / "whole")
    whole, passes[0] = passes[0], 0
    assert whole < 2 * STEPS
    gone_on_with(stopped_after(command, tmp_path, 7), tmp_path / "jobs", command.output)
    assert passes[0] == whole


@pytest.mark.parametrize("step_cache", [0.0, 0.3])
@pytest.mark.parametrize("steps", [4, 8, 9])
def test_two_experts_across_where_they_change(
    command: GenerateVideo, tmp_path: Path, steps: int, step_cache: float
) -> None:
    """Stopped before, at and after the eighth step, from which on the second takes over."""
    model, low_noise = build_experts(tmp_path / "model", dataclasses.replace(embedded_config(), model_type="t2v"))
    command = dataclasses.replace(
        command, model=model, parts=ModelParts(low_noise=low_noise), boundary=0.6, guidance_low=2.0,
        sampling=SamplingSettings(step_cache=step_cache),
    )  # fmt: skip
    folder = stopped_after(command, tmp_path, steps)
    run = gone_on_with(folder, tmp_path / "jobs", command.output)
    assert torch.equal(latents_in(run), latents_in(finished(command, tmp_path / "whole")))


def test_a_picture_stays_given(command: GenerateVideo, tmp_path: Path) -> None:
    save_scene(tmp_path / "first.png")
    command = dataclasses.replace(command, given=Given(tmp_path / "first.png"))
    run = gone_on_with(stopped_after(command, tmp_path, 5), tmp_path / "jobs", command.output)
    assert torch.equal(latents_in(run), latents_in(finished(command, tmp_path / "whole")))


def test_a_job_stopped_by_hand_is_resumed_by_its_folder(command: GenerateVideo, tmp_path: Path) -> None:
    folder = stopped_after(command, tmp_path, 4)
    assert interrupted_jobs(tmp_path / "jobs") == []
    done = engine_cli("resume", folder)
    assert done.returncode == 0, done.stderr
    assert len(read_frames(command.output, 96, 64)) == command.frames
    assert torch.equal(latents_in(finished(command, tmp_path / "whole")), loaded(folder / LATENTS_FILE))


def loaded(file: Path) -> Tensor:
    from safetensors.torch import load_file

    return load_file(file)["latents"]


def test_kept_steps_are_told_only_while_they_are_there(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there are latents, those are what a job goes on from."""
    monkeypatch.setattr("engine.sampling.keeping.KEEP_SECONDS", 0.0)
    monkeypatch.setattr("engine.sampling.keeping.WORK_TO_WRITING", 0.0)

    def stop(event: Event) -> None:
        if isinstance(event, LatentsSaved):
            run.cancel.set()

    run = Run(command, tmp_path / "jobs", stop)
    end = run()
    assert [each.steps for each in run.events if isinstance(each, SamplingKept)] == list(range(1, STEPS))
    assert isinstance(end, JobCancelled)
    assert end.latents is not None
    assert (end.kept_steps, (job_folder_of(run) / STATE_FILE).exists()) == (0, False)
