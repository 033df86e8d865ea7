"""What `resume` says of a job whose kept state is refused: how to begin it anew, and of no other job."""

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli import main
from engine.cli_job import stop_signals
from engine.commands import EMBEDDED_MODEL, GenerateVideo
from engine.generation import Given
from engine.output.job_folder import STATE_FILE, JobFolder
from tests.engine.road_run import embedded_command, save_scene
from tests.engine.sampling_states import state_after

HINT = "To begin anew: python -m engine resume"


def left_sampling(command: GenerateVideo, jobs: Path) -> Path:
    """The folder of a job that was killed, with a state of other settings or files."""
    folder = JobFolder.create(jobs, command)
    folder.keep_state(state_after(1, command.steps, "another job", (1, 8, 3, 6, 8)))
    assert folder.lock is not None
    folder.lock.release()
    return folder.path


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stop_signals()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    picture = tmp_path / "first.png"
    save_scene(picture)
    return dataclasses.replace(embedded_command(tmp_path), given=Given(picture))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_how_to_begin_anew_is_said_when_the_state_is_refused(
    command: GenerateVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, is_damaged: bool
) -> None:
    folder = left_sampling(command, tmp_path / "jobs")
    if is_damaged:
        os.truncate(folder / STATE_FILE, 10)
    assert main(["resume", str(folder)]) == 1
    said = capsys.readouterr().err
    assert f'{HINT} "{folder}" --anew' in said
    if not is_damaged:
        assert "files of the model, pictures or clips that have changed since" in said
    assert main(["resume", str(folder), "--json"]) == 1
    assert capsys.readouterr().err == ""


def test_a_job_that_fails_otherwise_is_not_to_begin_anew(
    command: GenerateVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = dataclasses.replace(command, model=tmp_path / EMBEDDED_MODEL.name)
    folder = left_sampling(missing, tmp_path / "jobs")
    assert main(["resume", str(folder)]) == 1
    assert HINT not in capsys.readouterr().err
