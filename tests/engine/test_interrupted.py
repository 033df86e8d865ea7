"""Jobs killed with SIGKILL: found at the next start, gone on with once, and nothing of them lost or left."""

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
import torch

from engine.cli_resume import resume
from engine.commands import (
    COMMAND_FILE,
    Command,
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
    OLD_SECONDS,
    STOPPED,
    InterruptedJob,
    claim,
    drop_old_states,
    free_path,
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
    record_end,
)
from engine.output.kept_steps import KeptSteps
from tests.engine.cli_process import engine, engine_process, events_of, generate_arguments
from tests.engine.job_run import Run
from tests.engine.sampling_states import state_after
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


HOLD_A_JOB = """
import sys; from pathlib import Path; from engine.commands import GenerateVideo
from engine.output.job_folder import JobFolder
folder = JobFolder.create(Path(sys.argv[1]), GenerateVideo("x", Path("out.mp4")))
folder.latents.touch()
print(folder.path, flush=True)
sys.stdin.read()
"""


def test_a_job_that_runs_in_another_process_is_left_alone(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_JOB, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    job = InterruptedJob(folder, folder / LATENTS_FILE, GenerateVideo("x", Path("out.mp4")), 0)
    assert (interrupted_jobs(tmp_path), claim(job)) == ([], None)
    process.kill()
    process.communicate()
    assert only(tmp_path).path == folder


CLAIM_ALL = """
import sys; from pathlib import Path; from engine.output.interrupted import claim, interrupted_jobs
jobs = interrupted_jobs(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
held = [(job.path.name, claimed) for job in jobs if (claimed := claim(job)) is not None]
print(*(name for name, _ in held), flush=True)
sys.stdin.readline()
"""


def test_each_job_is_taken_up_by_one_process(tmp_path: Path) -> None:
    """Both know all jobs, begin together, and keep what they have until the other is through."""
    made = [left_behind(tmp_path, GenerateVideo("x", Path("out.mp4"))).name for _ in range(24)]
    pair = [ClaimingProcess(tmp_path) for _ in range(2)]
    for process in pair:
        process.say("go")
    taken = [name for process in pair for name in process.heard().split()]
    for process in pair:
        process.say("end")
        process.popen.communicate()
    assert sorted(taken) == sorted(made)


class ClaimingProcess:
    def __init__(self, jobs: Path) -> None:
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen([sys.executable, "-c", CLAIM_ALL, jobs], stdin=pipe, stdout=pipe, text=True)
        assert self.heard() == "ready\n"

    def say(self, word: str) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(word + "\n")
        self.popen.stdin.flush()

    def heard(self) -> str:
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe", b'{"kind": "GenerateVideo", "decode": 3}',
     b'{"kind": "GenerateVideo", "prompt": "x", "output": null, "solver": "unipc", "decode": {"mode": "automatic"}}',
     b'{"kind": "DecodeLatents", "latents": null, "output": "o", "decode": {"mode": "automatic"}}'],
)  # fmt: skip
def test_damaged_folders_hide_nothing_else(tmp_path: Path, content: bytes) -> None:
    command = GenerateVideo("x", tmp_path / "out.mp4")
    damaged, sound = left_behind(tmp_path, command), left_behind(tmp_path, command)
    (damaged / COMMAND_FILE).write_bytes(content)
    (tmp_path / "a file").touch()
    (tmp_path / "a folder" / LOCK_FILE).mkdir(parents=True)
    assert only(tmp_path).path == sound


def test_only_jobs_with_something_to_decode_are_found_oldest_first(tmp_path: Path) -> None:
    command = GenerateVideo("x", tmp_path / "out.mp4")
    left_behind(tmp_path, command, sampled=False)
    (left_behind(tmp_path, command) / LOCK_FILE).unlink()  # as versions without the lock left it
    first = left_behind(tmp_path, command)
    elsewhere = DecodeLatents(tmp_path / "other.pt", tmp_path / "other.mp4")
    second = left_behind(tmp_path, elsewhere, sampled=False)
    found = interrupted_jobs(tmp_path)
    assert [job.path for job in found] == [first, second]
    assert [job.latents for job in found] == [first / LATENTS_FILE, tmp_path / "other.pt"]
    assert interrupted_jobs(tmp_path / "nowhere") == []


def test_how_a_job_is_taken_up_given_back_and_forgotten(tmp_path: Path) -> None:
    folder = left_behind(tmp_path, GenerateVideo("x", tmp_path / "out.mp4"))
    claimed = claim(only(tmp_path))
    assert claimed is not None
    claimed.hand_over(tmp_path / "out.mp4")
    assert interrupted_jobs(tmp_path) == []
    claimed.give_back()
    claimed = claim(only(tmp_path))
    assert claimed is not None
    claimed.forget()
    assert (interrupted_jobs(tmp_path), state_of(folder)) == ([], "forgotten")
    assert (folder / LATENTS_FILE).exists()


def test_the_command_keeps_what_was_asked_for_and_overwrites_nothing(tmp_path: Path) -> None:
    command = GenerateVideo("x", tmp_path / "a clip.v2.mp4", tmp_path, fps=24)
    left_behind(tmp_path / "jobs", command)
    for name in ("a clip.v2.mp4", "a clip.v2 (2).mp4", "a clip.v2 (3).mp4"):
        rest = only(tmp_path / "jobs").rest()
        assert isinstance(rest, DecodeLatents)
        assert (rest.output, rest.model, rest.fps) == (tmp_path / name, tmp_path, 24)
        rest.output.touch()
    assert free_path(tmp_path / ("x" * 300)) == tmp_path / ("x" * 300)


def test_a_decode_by_hand_settles_the_interrupted_job(tiny_model: Path, tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "out.mp4", tiny_model))
    impossible = DecodeLatents(folder / LATENTS_FILE, tmp_path / "by hand.mp4", tmp_path / "no model")
    Run(impossible, tmp_path / "jobs")()
    assert only(tmp_path / "jobs").path == folder
    decode = dataclasses.replace(impossible, model=tiny_model)
    assert isinstance(Run(decode, tmp_path / "jobs")(), JobFinished)
    assert (interrupted_jobs(tmp_path / "jobs"), state_of(folder)) == ([], "resumed")


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


ENDS = [(None, True, True), (End.FAILED, True, True), (End.CANCELLED, False, True), (End.FINISHED, False, False),
        (End.RESUMED, False, False), (End.FORGOTTEN, False, False)]  # fmt: skip


@pytest.mark.parametrize(("end", "is_offered", "is_stopped"), ENDS)
def test_which_jobs_are_offered(tmp_path: Path, end: End | None, *, is_offered: bool, is_stopped: bool) -> None:
    """What failed is offered as what was killed is; what a person stopped only when asked for, or named."""
    folder = left_sampling(tmp_path / "jobs", GenerateVideo("x", tmp_path / "clip.mp4"), end=end)
    assert bool(interrupted_jobs(tmp_path / "jobs")) == is_offered
    assert bool(interrupted_jobs(tmp_path / "jobs", STOPPED)) == is_stopped
    job = named_job(folder)
    assert (job.end, job.rest().output) == (end, tmp_path / "clip.mp4")
    claimed = claim(job)
    assert claimed is not None
    claimed.give_back()
    assert named_job(folder) == job


def test_what_failed_with_latents_is_not_offered_but_can_be_named(tmp_path: Path) -> None:
    """As in folders of versions that kept no states: their failures were told, and are no news."""
    folder = left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "clip.mp4"))
    record_end(folder, End.FAILED, tmp_path / "clip.mp4")
    assert interrupted_jobs(tmp_path / "jobs", STOPPED) == []
    (folder / LOCK_FILE).unlink()
    rest = named_job(folder).rest()
    assert isinstance(rest, DecodeLatents)
    assert rest.latents == folder / LATENTS_FILE


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


def test_latents_beside_a_state_are_decoded_and_the_state_goes(tmp_path: Path) -> None:
    """A process killed between the two: the latents were saved, what they were made from not yet removed."""
    folder = left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "clip.mp4"))
    JobFolder(folder, None).keep_state(state_after(39, 40))
    job = only(tmp_path / "jobs")
    assert isinstance(job.rest(), DecodeLatents)
    claimed = claim(job)
    assert claimed is not None
    claimed.hand_over(tmp_path / "clip.mp4")
    claimed.release()
    assert ((folder / STATE_FILE).exists(), (folder / LATENTS_FILE).exists()) == (False, True)


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


def test_what_a_person_stopped_is_kept_for_a_week(tmp_path: Path) -> None:
    command = GenerateVideo("x", tmp_path / "clip.mp4")
    folders = [left_sampling(tmp_path, command, end=end) for end in (End.CANCELLED, End.FAILED, None)]
    ended = (folders[0] / ENDED_FILE).stat().st_mtime
    drop_old_states(tmp_path, ended + OLD_SECONDS - 1)
    assert len(interrupted_jobs(tmp_path, STOPPED)) == 3
    drop_old_states(tmp_path, ended + 2 * OLD_SECONDS)
    assert {job.path for job in interrupted_jobs(tmp_path, STOPPED)} == {*folders[1:]}
    assert state_of(folders[0]) == "cancelled"


@pytest.mark.parametrize("content", ["{", "[]", '{"state": "lost"}', '{"state": null}', "x"])
def test_an_end_that_nobody_understands_is_an_end(tmp_path: Path, content: str) -> None:
    folder = left_sampling(tmp_path, GenerateVideo("x", tmp_path / "clip.mp4"))
    job = only(tmp_path)
    (folder / ENDED_FILE).write_text(content)
    assert (interrupted_jobs(tmp_path, STOPPED), claim(job)) == ([], None)
    with pytest.raises(EngineError, match="cannot be read"):
        named_job(folder)


def test_no_job_and_a_job_that_runs_are_told_when_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not there"):
        named_job(tmp_path)
    running = JobFolder.create(tmp_path, GenerateVideo("x", tmp_path / "clip.mp4"))
    with pytest.raises(EngineError, match="another process works on this job"):
        named_job(running.path)


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
def test_a_folder_that_cannot_be_written_to_is_told(tiny_model: Path, tmp_path: Path) -> None:
    left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "out.mp4", tiny_model))
    mount = ["unshare", "-rm", "sh", "-c", READ_ONLY, str(tmp_path / "jobs")]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    resume = [*mount, sys.executable, "-m", "engine", "resume", "--jobs", str(tmp_path / "jobs")]
    listed = subprocess.run([*resume, "--list"], capture_output=True, text=True, check=True)
    assert str(tmp_path / "out.mp4") in listed.stdout
    resumed = subprocess.run(resume, capture_output=True, text=True, check=False)
    assert resumed.returncode == 1, resumed.stderr
    assert "Cannot write" in resumed.stderr
    assert "Read-only" in resumed.stderr
    assert len(interrupted_jobs(tmp_path / "jobs")) == 1
