"""Which jobs without a video are found, whatever lies beside them, and what makes the rest of each."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.commands import (
    COMMAND_FILE,
    DecodeLatents,
    GenerateVideo,
)
from engine.errors import EngineError
from engine.output.interrupted import (
    OLD_SECONDS,
    STOPPED,
    claim,
    drop_old_states,
    free_path,
    interrupted_jobs,
    named_job,
)
from engine.output.job_folder import (
    ENDED_FILE,
    LATENTS_FILE,
    LOCK_FILE,
    End,
    JobFolder,
    record_end,
)
from tests.engine.left_jobs import left_behind, left_sampling, only, state_of


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


def test_the_command_keeps_what_was_asked_for_and_overwrites_nothing(tmp_path: Path) -> None:
    command = GenerateVideo("x", tmp_path / "a clip.v2.mp4", tmp_path, fps=24)
    left_behind(tmp_path / "jobs", command)
    for name in ("a clip.v2.mp4", "a clip.v2 (2).mp4", "a clip.v2 (3).mp4"):
        rest = only(tmp_path / "jobs").rest()
        assert isinstance(rest, DecodeLatents)
        assert (rest.output, rest.model, rest.fps) == (tmp_path / name, tmp_path, 24)
        rest.output.touch()
    assert free_path(tmp_path / ("x" * 300)) == tmp_path / ("x" * 300)


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
