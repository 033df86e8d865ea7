"""The offer to save what an earlier Tessera had sampled: real folders of jobs, whose process is gone, on disk."""

import json
from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QLabel, QPushButton

from desktop.interrupted_words import interrupted_text
from desktop.state.job import Phase
from desktop.views.main_window import FRAME, SMALLEST_SIZE
from engine.commands import ContinueVideo, DecodeLatents, GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.events import JobStarted, Stage
from engine.output.interrupted import InterruptedJob, claim, interrupted_jobs
from engine.output.job_folder import ENDED_FILE, LATENTS_FILE, STATE_FILE, JobFolder, command_in
from engine.output.kept_steps import KeptSteps
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import Emit, Script
from tests.desktop.test_layout import assert_laid_out, settle
from tests.engine.sampling_states import state_after

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints")


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    """Two jobs that were killed while decoding."""
    for name in ("first.mp4", "second.mp4"):
        folder = JobFolder.create(tmp_path / "jobs", GenerateVideo("x", tmp_path / name, tmp_path, fps=24))
        folder.latents.touch()
        assert folder.lock is not None
        folder.lock.release()
    return tmp_path / "jobs"


@pytest.fixture
def half_sampled(tmp_path: Path) -> Path:
    """Two jobs whose sampling was killed after 12 and 3 of 40 steps."""
    for step, name in ((12, "third.mp4"), (3, "fourth.mp4")):
        folder = JobFolder.create(tmp_path / "jobs", GenerateVideo("x", tmp_path / name, tmp_path))
        folder.keep_state(state_after(step, 40, shape=(1, 1, 1, 2, 2)))
        assert folder.lock is not None
        folder.lock.release()
    return tmp_path / "jobs"


def opened(desks: Desks, script: Script | None = None) -> Desk:
    """A window that has looked for interrupted jobs."""
    desk = desks.open(script)
    with desk.qtbot.waitSignal(desk.app.interrupted.changed, timeout=20_000):
        pass
    return desk


def said(desk: Desk) -> str:
    bar = desk.app.window.interrupted_bar
    return " ".join(label.text() for label in bar.findChildren(QLabel)) if bar.isVisible() else ""


def press(desk: Desk, text: str) -> None:
    buttons = desk.app.window.interrupted_bar.findChildren(QPushButton)
    desk.click(next(button for button in buttons if button.text() == text))


def states(jobs: Path) -> list[str]:
    return [json.loads(file.read_text())["state"] for file in sorted(jobs.glob(f"*/{ENDED_FILE}"))]


def test_nothing_is_offered_where_nothing_was_lost(desks: Desks) -> None:
    assert said(opened(desks)) == ""


def test_decode_now_saves_one_after_the_other(desks: Desks, jobs: Path, tmp_path: Path) -> None:
    first, second = interrupted_jobs(jobs)
    (tmp_path / "second.mp4").touch()
    desk = opened(desks)
    assert "2 videos were sampled but not saved" in said(desk)
    press(desk, "Decode now")
    desk.qtbot.waitUntil(lambda: len(desk.engine.commands) == 2 and desk.app.job.phase is Phase.FINISHED)
    assert first.latents is not None
    assert second.latents is not None
    assert desk.engine.commands == [
        DecodeLatents(first.latents, tmp_path / "first.mp4", tmp_path, 24),
        DecodeLatents(second.latents, tmp_path / "second (2).mp4", tmp_path, 24),
    ]
    desk.qtbot.wait(50)
    assert (said(desk), states(jobs), interrupted_jobs(jobs)) == ("", ["resumed", "resumed"], [])


def test_go_on_now_samples_from_the_steps_that_were_kept(desks: Desks, half_sampled: Path, tmp_path: Path) -> None:
    first, second = interrupted_jobs(half_sampled)
    desk = opened(desks)
    assert "2 videos were begun" in said(desk)
    assert "12 of 40 steps are done, 3 of 40 steps are done." in said(desk)
    press(desk, "Go on now")
    desk.qtbot.waitUntil(lambda: len(desk.engine.commands) == 2 and desk.app.job.phase is Phase.FINISHED)
    assert desk.engine.commands == [
        ContinueVideo(first.path, tmp_path / "third.mp4"),
        ContinueVideo(second.path, tmp_path / "fourth.mp4"),
    ]
    desk.qtbot.wait(50)
    assert said(desk) == ""
    # Left to the engine, which takes the folders up itself and says how they end.
    assert (states(half_sampled), JobFolder.reopen(first.path, command_in(first.path)).path) == ([], first.path)


def test_what_is_to_be_decoded_and_what_to_be_sampled_is_told(desks: Desks, jobs: Path, half_sampled: Path) -> None:
    (interrupted_jobs(half_sampled)[-1].path / STATE_FILE).write_bytes(b"damaged")
    desk = opened(desks)
    assert "4 videos were begun" in said(desk)
    assert "12 of 40 steps are done, from the first step, since what was kept is damaged" in said(desk)
    assert "Sampled already: 2." in said(desk)
    press(desk, "Forget")
    assert states(jobs) == ["forgotten"] * 4
    assert (list(jobs.glob(f"*/{STATE_FILE}")), len(list(jobs.glob(f"*/{LATENTS_FILE}")))) == ([], 2)


def test_a_damaged_state_is_begun_anew_as_was_said(desks: Desks, half_sampled: Path) -> None:
    damaged = interrupted_jobs(half_sampled)[0].path / STATE_FILE
    damaged.write_bytes(b"damaged")
    desk = opened(desks)
    press(desk, "Go on now")
    desk.qtbot.waitUntil(lambda: len(desk.engine.commands) == 2 and desk.app.job.phase is Phase.FINISHED)
    assert desk.engine.commands[0] == ContinueVideo(damaged.parent, half_sampled.parent / "third.mp4")
    assert not damaged.exists()


def test_more_than_can_be_told_are_counted() -> None:
    job = InterruptedJob(Path("/j"), None, GenerateVideo("x", Path("o.mp4")), 0, KeptSteps(1, 2))
    assert "are done and 2 more." in interrupted_text([job] * 5).advice
    assert "more" not in interrupted_text([job] * 3).advice


def test_later_offers_again_and_forget_never(desks: Desks, jobs: Path) -> None:
    desk = opened(desks)
    press(desk, "Later")
    assert said(desk) == ""
    assert len(interrupted_jobs(jobs)) == 2
    again = opened(desks)
    assert "2 videos" in said(again)
    press(again, "Forget")
    assert (said(again), states(jobs), interrupted_jobs(jobs)) == ("", ["forgotten", "forgotten"], [])
    assert len(list(jobs.glob("*/latents.safetensors"))) == 2
    assert (desk.engine.commands, again.engine.commands) == ([], [])


def test_what_another_tessera_decodes_is_left_to_it(desks: Desks, jobs: Path) -> None:
    desk = opened(desks)
    other = claim(interrupted_jobs(jobs)[0])
    assert other is not None
    press(desk, "Decode now")
    desk.wait_for(Phase.FINISHED)
    desk.qtbot.wait(50)
    assert [command.output.name for command in desk.engine.commands] == ["second.mp4"]
    other.release()
    assert "A video was sampled" in said(opened(desks))


@pytest.fixture
def held_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decodes of the double last until they are cancelled."""

    def run(self: object, command: object, emit: Emit, canvas: object, cancel: object, latents: object) -> None:
        emit(JobStarted(Path(), 256, 256, 33, 16, (Stage.DECODE, Stage.ENCODE)))
        self._wait(3600, cancel)  # type: ignore[attr-defined]

    monkeypatch.setattr("tests.desktop.scripted_engine.ScriptedEngine._run", run)


@pytest.mark.usefixtures("held_decodes")
def test_a_cancelled_one_is_offered_at_the_next_start_and_the_others_at_once(desks: Desks, jobs: Path) -> None:
    desk = opened(desks)
    press(desk, "Decode now")
    desk.wait_for(Phase.RUNNING)
    desk.qtbot.waitUntil(lambda: states(jobs) == ["resumed"])
    assert said(desk) == ""
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)
    assert "A video was sampled" in said(desk)
    assert len(interrupted_jobs(jobs)) == 2


@pytest.mark.usefixtures("held_decodes")
def test_closing_while_one_is_decoded_loses_none(desks: Desks, jobs: Path) -> None:
    desk = opened(desks)
    press(desk, "Decode now")
    desk.qtbot.waitUntil(lambda: states(jobs) == ["resumed"])
    desk.app.closing.stop_and_close()
    desk.qtbot.waitUntil(lambda: not desk.app.window.isVisible())
    desks.close_all()
    assert len(interrupted_jobs(jobs)) == 2


@pytest.mark.parametrize("size", [SMALLEST_SIZE, QSize(1280, 800), QSize(853, 432) - FRAME])
def test_a_failure_has_the_place_until_it_is_closed(desks: Desks, jobs: Path, size: QSize) -> None:
    desk = opened(desks)
    desk.app.window.fit_into(size + FRAME)
    settle(desk)
    bar = desk.app.window.interrupted_bar
    assert bar.isVisible()
    assert bar.height() >= bar.minimumSizeHint().height()
    assert_laid_out(desk)
    desk.app.show_problem(EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path="/somewhere", reason="no"))
    settle(desk)
    assert not bar.isVisible()
    assert_laid_out(desk)
    desk.app.window.error_bar.hide()
    settle(desk)
    assert bar.isVisible()
    press(desk, "Later")
    settle(desk)
    assert desk.app.window.preview.isVisible()
