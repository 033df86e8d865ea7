"""An interrupted job is taken up by one process at a time, given back, or settled by who made its video."""

import dataclasses
import subprocess
import sys
from pathlib import Path

from engine.commands import (
    DecodeLatents,
    GenerateVideo,
)
from engine.events import JobFinished
from engine.output.interrupted import (
    InterruptedJob,
    claim,
    interrupted_jobs,
)
from engine.output.job_folder import (
    LATENTS_FILE,
    STATE_FILE,
    JobFolder,
)
from tests.engine.job_run import Run
from tests.engine.left_jobs import left_behind, only, state_of
from tests.engine.sampling_states import state_after

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


def test_a_decode_by_hand_settles_the_interrupted_job(tiny_model: Path, tmp_path: Path) -> None:
    folder = left_behind(tmp_path / "jobs", GenerateVideo("x", tmp_path / "out.mp4", tiny_model))
    impossible = DecodeLatents(folder / LATENTS_FILE, tmp_path / "by hand.mp4", tmp_path / "no model")
    Run(impossible, tmp_path / "jobs")()
    assert only(tmp_path / "jobs").path == folder
    decode = dataclasses.replace(impossible, model=tiny_model)
    assert isinstance(Run(decode, tmp_path / "jobs")(), JobFinished)
    assert (interrupted_jobs(tmp_path / "jobs"), state_of(folder)) == ([], "resumed")


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
