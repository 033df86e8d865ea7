"""`python -m engine resume`: jobs killed with SIGKILL are gone on with once, and nothing of them is lost or left."""

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli_resume import resume
from engine.commands import (
    COMMAND_FILE,
    ContinueVideo,
    DecodeLatents,
    DecodeSettings,
    GenerateVideo,
    from_json,
    to_json,
)
from engine.errors import EngineError
from engine.events import JobFinished
from engine.output.durable import UNFINISHED
from engine.output.interrupted import (
    claim,
    interrupted_jobs,
    named_job,
)
from engine.output.job_folder import (
    ENDED_FILE,
    FRAMES_FILE,
    LATENTS_FILE,
    LOCK_FILE,
    STATE_FILE,
    End,
    JobFolder,
)
from engine.output.kept_steps import KeptSteps
from tests.engine.cli_process import engine, engine_process, events_of, generate_arguments
from tests.engine.job_run import Run
from tests.engine.left_jobs import left_behind, left_sampling, only, state_of
from tests.engine.video_reading import read_frames

POSIX_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


SIZE, FRAMES = (256, 256), 33


def killed_at(process: "subprocess.Popen[str]", **event: str) -> dict[str, Any]:
    """Read events until one has these values, kill the process with SIGKILL, and return the event."""
    assert process.stdout is not None
    found = next(each for each in events_of(process.stdout) if event.items() <= each.items())
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    return found


@pytest.fixture(scope="module")
def killed_jobs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of jobs after one was killed while it decoded."""
    folder = tmp_path_factory.mktemp("killed")
    arguments = generate_arguments(tiny_model, folder, "x".join(map(str, SIZE)), FRAMES)
    killed_at(engine_process(*arguments, "--json"), event="StageStarted", stage="decode")
    return folder / "jobs"


@pytest.fixture
def jobs(killed_jobs: Path, tmp_path: Path) -> Path:
    """A copy of that folder whose job was to write `tmp_path/clip.mp4`."""
    copy = shutil.copytree(killed_jobs, tmp_path / "jobs")
    file = next(copy.glob(f"*/{COMMAND_FILE}"))
    file.write_text(to_json(dataclasses.replace(from_json(file.read_text()), output=tmp_path / "clip.mp4")))
    return copy


@POSIX_SIGNALS
def test_a_killed_job_is_found_and_decoded_from_its_latents(jobs: Path, tmp_path: Path) -> None:
    job = only(jobs)
    assert (job.path / FRAMES_FILE).exists(), "killed too late"
    listed = engine("resume", "--jobs", jobs, "--list", "--json")
    assert json.loads(listed.stdout)["latents"] == str(job.latents)
    resumed = engine("resume", "--jobs", jobs, "--json")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    last = list(events_of(resumed.stdout.splitlines()))[-1]
    assert (last["event"], last["path"]) == ("JobFinished", str(tmp_path / "clip.mp4"))
    assert job.latents is not None
    undisturbed = engine("decode", job.latents, "--jobs", tmp_path / "other", "-o", tmp_path / "undisturbed.mp4")
    assert undisturbed.returncode == 0, undisturbed.stderr
    frames = read_frames(tmp_path / "clip.mp4", *SIZE)
    assert len(frames) == FRAMES
    assert np.array_equal(frames, read_frames(tmp_path / "undisturbed.mp4", *SIZE))
    assert not list(tmp_path.rglob("*.part"))
    assert not list(tmp_path.rglob(FRAMES_FILE))
    assert (interrupted_jobs(jobs), state_of(job.path)) == ([], "resumed")
    assert job.latents.exists()


@POSIX_SIGNALS
def test_two_resumes_at_once_make_one_video(jobs: Path, tmp_path: Path) -> None:
    both = [engine_process("resume", "--jobs", jobs, "--json") for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    events = [event["event"] for event in events_of("".join(said).splitlines())]
    assert (events.count("JobStarted"), events.count("JobFinished")) == (1, 1)
    assert [file.name for file in tmp_path.glob("*.mp4")] == ["clip.mp4"]


@POSIX_SIGNALS
def test_a_resume_that_is_killed_or_cancelled_can_be_resumed(jobs: Path, tmp_path: Path) -> None:
    first = only(jobs)
    cancelled = engine_process("resume", "--jobs", jobs, "--json")
    assert cancelled.stdout is not None
    next(event for event in events_of(cancelled.stdout) if event["event"] == "StageStarted")
    cancelled.send_signal(signal.SIGINT)
    cancelled.communicate()
    assert cancelled.returncode == 130
    assert only(jobs) == first
    killed_at(engine_process("resume", "--jobs", jobs, "--json"), event="StageStarted", stage="decode")
    second = only(jobs)
    assert (state_of(first.path), second.path == first.path) == ("resumed", False)
    assert isinstance(second.command, DecodeLatents)
    assert (second.latents, second.output) == (first.latents, first.output)
    assert second.latents is not None
    second.latents.unlink()
    gone = engine("resume", "--jobs", jobs)
    assert gone.returncode == 1
    assert f"The latents {second.latents} cannot be used" in gone.stderr
    assert only(jobs) == second


def test_forgotten_jobs_are_named_once_and_keep_their_latents(tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "clip.mp4"))
    forgotten = engine("resume", "--jobs", tmp_path / "jobs", "--forget", "--json")
    assert json.loads(forgotten.stdout)["latents"] == str(folder / LATENTS_FILE)
    assert (state_of(folder), (folder / LATENTS_FILE).exists()) == ("forgotten", True)
    assert engine("resume", "--jobs", tmp_path / "jobs", "--json").stdout == ""
    assert not (tmp_path / "clip.mp4").exists()


def test_below_the_smallest_plan_the_numbers_are_said_and_nothing_is_lost(tiny_model: Path, tmp_path: Path) -> None:
    tight = DecodeSettings(budget_bytes=1 << 20)
    folder = left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "out.mp4", tiny_model, decode=tight))
    resumed = engine("resume", "--jobs", tmp_path / "jobs")
    assert resumed.returncode == 2, resumed.stderr
    assert re.search(r"not fit into 1 MiB; the smallest budget that would do is \d+ MiB", resumed.stderr)
    assert f'decode "{folder / LATENTS_FILE}"' in resumed.stderr
    assert only(tmp_path / "jobs").path == folder
    again = Run(DecodeLatents(folder / LATENTS_FILE, tmp_path / "out.mp4"), tmp_path / "jobs")
    assert isinstance(again(), JobFinished)
    assert interrupted_jobs(tmp_path / "jobs") == []


def test_a_job_killed_while_sampling_is_gone_on_with_in_its_own_folder(tmp_path: Path) -> None:
    command = GenerateVideo("x", tmp_path / "clip.mp4")
    folder = left_sampling(tmp_path / "jobs", command)
    (tmp_path / "clip.mp4").touch()
    job = only(tmp_path / "jobs")
    assert (job.latents, job.kept, job.end) == (None, KeptSteps(12, 40), None)
    assert job.rest() == ContinueVideo(folder, tmp_path / "clip (2).mp4")
    listed = json.loads(engine("resume", "--jobs", tmp_path / "jobs", "--list", "--json").stdout)
    assert (listed["job"], listed["latents"], listed["kept_steps"], listed["steps"]) == (str(folder), None, 12, 40)
    assert "12 of 40 steps" in engine("resume", "--jobs", tmp_path / "jobs", "--list").stdout
    running = JobFolder.reopen(folder, command)
    assert (interrupted_jobs(tmp_path / "jobs"), running.path) == ([], folder)


def test_a_damaged_state_is_told_and_its_job_can_be_begun_anew(tmp_path: Path) -> None:
    folder = left_sampling(tmp_path / "jobs", GenerateVideo("x", tmp_path / "clip.mp4"))
    (folder / STATE_FILE).write_bytes(b"no state")
    job = only(tmp_path / "jobs")
    assert job.kept is None
    assert "is damaged" in job.problem
    listed = engine("resume", "--jobs", tmp_path / "jobs", "--list").stdout
    assert "nothing to go on from: is damaged" in listed
    claimed = claim(job)
    assert claimed is not None
    claimed.begin_anew()
    claimed.release()
    assert (interrupted_jobs(tmp_path / "jobs"), named_job(folder).problem) == ([], "")
    assert named_job(folder).rest() == job.rest()


def test_a_forgotten_job_leaves_no_state(tmp_path: Path) -> None:
    jobs, command = tmp_path / "jobs", GenerateVideo("x", tmp_path / "clip.mp4")
    killed, stopped = left_sampling(jobs, command), left_sampling(jobs, command, 3, End.CANCELLED)
    (killed / (STATE_FILE + UNFINISHED)).touch()
    assert engine("resume", "--jobs", jobs, "--forget").returncode == 0
    assert (state_of(killed), state_of(stopped)) == ("forgotten", "cancelled")
    assert sorted(file.name for file in killed.iterdir()) == [COMMAND_FILE, ENDED_FILE, LOCK_FILE]
    assert resume(None, only_list=False, forget=True, as_json=True, job=stopped) == 0
    assert (state_of(stopped), (stopped / STATE_FILE).exists()) == ("forgotten", False)


def test_only_one_job_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="one, by its folder"):
        resume(tmp_path, only_list=True, forget=False, as_json=True, anew=True)
