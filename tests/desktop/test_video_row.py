"""Rows of videos and jobs that go on from others: what they are made of, and when a row has ended."""

from dataclasses import replace

import pytest
from PySide6.QtWidgets import QLabel, QPushButton

from desktop.state.job import Phase
from engine.commands import ContinueVideo, DecodeLatents, GenerateVideo
from engine.errors import ErrorCode
from engine.events import Stage
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import LATENTS, Script

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")


@pytest.fixture
def desk(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A window with words, whose videos go to a folder of the test."""
    desk = desks.open(Script(sample_seconds=0.02, strip_seconds=0))
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="ball", videos=3, steps=3, frames=1, seed=7))
    return desk


def wait_for_videos(desk: Desk, count: int) -> None:
    desk.qtbot.waitUntil(
        lambda: len(desk.engine.commands) == count and desk.app.job.phase is Phase.FINISHED, timeout=20_000
    )


def test_a_row_is_of_what_the_panel_said_when_it_began(desk: Desk) -> None:
    began = desk.app.prompt.values
    desk.app.jobs.generate()
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE, timeout=20_000)
    desk.app.prompt.change(replace(began, prompt="", width=251, seed=99, steps=1))
    desk.app.prompt.optimise.set_budget(1 << 30)
    wait_for_videos(desk, 3)
    first, *others = desk.engine.commands
    assert isinstance(first, GenerateVideo)
    assert (first.prompt, first.width, first.budget_bytes) == ("ball", 256, None)
    assert others == [
        replace(first, seed=seed, output=desk.folder / "videos" / f"ball-{seed}.mp4") for seed in (8, 9)
    ]  # fmt: skip


def test_a_job_after_a_row_is_not_counted_to_it(desk: Desk) -> None:
    desk.app.jobs.generate()
    wait_for_videos(desk, 3)
    assert (desk.app.jobs.videos.number, desk.app.jobs.videos.total) == (0, 0)
    desk.submit(steps=100)
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE, timeout=20_000)
    desk.qtbot.wait(100)
    words = " ".join(label.text() for label in desk.app.window.progress.findChildren(QLabel))
    assert "video" not in words.replace("\u200b", "").lower()
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)


def test_what_a_job_that_went_on_has_left_can_be_decoded(desk: Desk) -> None:
    desk.engine.script.fail_with = ErrorCode.OUT_OF_MEMORY
    desk.app.jobs.submit(ContinueVideo(desk.folder, desk.folder / "o.mp4"))
    desk.wait_for(Phase.FAILED)
    buttons = desk.app.window.error_bar.findChildren(QPushButton)
    desk.click(next(each for each in buttons if each.isVisibleTo(desk.app.window) and "ecode" in each.text()))
    desk.wait_for(Phase.FINISHED)
    assert desk.engine.commands[-1] == DecodeLatents(desk.folder / LATENTS, desk.folder / "o.mp4")
