"""Jobs stopped or killed while the real engine samples go on in their folders, to the same latents and video."""

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.commands import ContinueVideo, GenerateVideo
from engine.errors import ErrorCode
from engine.events import Event, JobCancelled, JobFinished, SamplingKept, Stage, StageProgressed
from engine.generation import SamplingSettings, Solver
from engine.output.interrupted import STOPPED, interrupted_jobs
from engine.output.job_folder import LATENTS_FILE, STATE_FILE, command_in
from tests.engine.cli_process import engine, events_of
from tests.engine.job_run import FRAMES, HEIGHT, WIDTH, Run, assert_failed, kept_in, latents_of, tiny_command
from tests.engine.video_reading import read_frames

FINISHED = ["command.json", "ended.json", "job.lock", LATENTS_FILE]


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path) -> GenerateVideo:
    return dataclasses.replace(tiny_command(tiny_model, tmp_path), steps=5)


def stopped_after(command: GenerateVideo, jobs: Path, step: int) -> tuple[Path, JobCancelled]:
    """The folder of a job that was cancelled after `step`, and its end."""

    def cancel_there(event: Event) -> None:
        if isinstance(event, StageProgressed) and (event.stage, event.done) == (Stage.SAMPLE, step):
            run.cancel.set()

    run = Run(command, jobs, cancel_there)
    end = run()
    assert isinstance(end, JobCancelled), end
    assert SamplingKept(step) in run.events
    (job,) = interrupted_jobs(jobs, STOPPED)
    return job.path, end


@pytest.mark.parametrize("solver", list(Solver))
def test_a_stopped_job_goes_on_to_the_same_latents(command: GenerateVideo, tmp_path: Path, solver: Solver) -> None:
    """Twice stopped; with step caching, whose state goes along."""
    command = dataclasses.replace(command, solver=solver, sampling=SamplingSettings(step_cache=0.3))
    expected = latents_of(dataclasses.replace(command, output=tmp_path / "whole.mp4"), tmp_path / "whole")
    folder, end = stopped_after(command, tmp_path / "jobs", 2)
    assert (end.latents, end.kept_steps) == (None, 2)

    def cancel_again(event: Event) -> None:
        if isinstance(event, StageProgressed) and (event.stage, event.done) == (Stage.SAMPLE, 3):
            again.cancel.set()

    again = Run(ContinueVideo(folder, command.output), tmp_path / "jobs", cancel_again)
    assert again() == JobCancelled(None, 3)
    last = Run(ContinueVideo(folder, command.output), tmp_path / "jobs")
    assert isinstance(last(), JobFinished)
    done = [event.done for event in last.events if isinstance(event, StageProgressed) and event.stage is Stage.SAMPLE]
    assert done == [3, 4, 5]
    assert torch.equal(load_file(folder / LATENTS_FILE)["latents"], expected)
    assert (kept_in(folder), len(list((tmp_path / "jobs").iterdir()))) == (FINISHED, 1)
    whole = read_frames(tmp_path / "whole.mp4", WIDTH, HEIGHT)
    assert np.array_equal(read_frames(command.output, WIDTH, HEIGHT), whole)


def test_without_a_state_it_begins_at_the_first_step(command: GenerateVideo, tmp_path: Path) -> None:
    expected = latents_of(dataclasses.replace(command, output=tmp_path / "whole.mp4"), tmp_path / "whole")
    folder, _ = stopped_after(command, tmp_path / "jobs", 2)
    (folder / STATE_FILE).unlink()
    run = Run(ContinueVideo(folder, tmp_path / "other.mp4"), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    assert torch.equal(load_file(folder / LATENTS_FILE)["latents"], expected)
    assert command_in(folder) == dataclasses.replace(command, output=tmp_path / "other.mp4")


def test_what_no_longer_belongs_together_is_refused_and_kept(command: GenerateVideo, tmp_path: Path) -> None:
    """Another seed in the command beside it: the state is of another job."""
    folder, _ = stopped_after(command, tmp_path / "jobs", 2)
    file = folder / "command.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "seed": 12}))
    run = Run(ContinueVideo(folder, command.output), tmp_path / "jobs")
    assert "other settings" in str(assert_failed(run(), ErrorCode.LATENTS_INVALID).details["reason"])
    assert (folder / STATE_FILE).exists()
    anew = engine("resume", folder, "--anew", "--json")
    assert anew.returncode == 0, anew.stdout + anew.stderr
    assert kept_in(folder) == FINISHED


# The engine as it is, but for how long a step has to take until it is worth a write.
KEEPS_ALL = "import sys, engine.sampling.keeping as keeping; keeping.KEEP_SECONDS = keeping.WORK_TO_WRITING = 0.0\n"
KEEPS_ALL += "from engine.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3])
def test_a_job_killed_while_sampling_is_resumed(command: GenerateVideo, tmp_path: Path, step: int) -> None:
    """kill -9 the moment a step is told to be kept; what `resume` makes is what an undisturbed job makes."""
    arguments = [
        "generate", "a red ball", "--model", command.model, "--size", f"{WIDTH}x{HEIGHT}", "--frames", FRAMES,
        "--steps", 5, "-o", tmp_path / "clip.mp4", "--jobs",
    ]  # fmt: skip
    killed = [sys.executable, "-c", KEEPS_ALL, *map(str, arguments), str(tmp_path / "jobs"), "--json"]
    process = subprocess.Popen(killed, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    next(event for event in events_of(process.stdout) if (event["event"], event.get("steps")) == ("SamplingKept", step))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (job,) = interrupted_jobs(tmp_path / "jobs")
    assert job.kept is not None
    assert step <= job.kept.done < 5
    resumed = engine("resume", "--jobs", tmp_path / "jobs", "--json")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    whole = engine(*map(str, arguments), str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    (other,) = (tmp_path / "whole").glob(f"*/{LATENTS_FILE}")
    assert (job.path / LATENTS_FILE).read_bytes() == other.read_bytes()
    assert (kept_in(job.path), interrupted_jobs(tmp_path / "jobs", STOPPED)) == (FINISHED, [])
