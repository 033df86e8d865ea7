"""The models without widgets."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtGui import QColor

from desktop.state.canvas_images import CanvasImages, dirty_span
from desktop.state.job import JobState
from desktop.state.playback import Playback
from desktop.state.time_left import TimeLeft
from engine.canvas import Canvas, DirtyRows
from engine.commands import GenerateVideo
from engine.events import JobFinished, JobStarted, Stage, StageFinished, StageProgressed, StageStarted


def open_canvas(frames: int = 33, height: int = 24, width: int = 40) -> tuple[Canvas, CanvasImages]:
    canvas = Canvas()
    images = CanvasImages(canvas)
    canvas.open(np.zeros((frames, height, width, 4), np.uint8), (frames - 1) // 4 + 1, height // 8, width // 8)
    images.refresh()
    return canvas, images


def test_images_share_the_engines_memory() -> None:
    canvas, images = open_canvas()
    canvas.pixels[7, 5, 3] = (10, 20, 30, 255)
    canvas.preview[2, 1, 4] = (1, 2, 3, 255)
    assert images.frames[7].pixelColor(3, 5) == QColor(30, 20, 10)
    assert images.previews[2].pixelColor(4, 1) == QColor(3, 2, 1)


def test_a_new_job_brings_new_images_and_the_old_memory_goes() -> None:
    canvas, images = open_canvas()
    canvas.mark_dirty(DirtyRows(0, 33, 0, 24))
    images.refresh()
    assert not images.is_empty
    canvas.open(np.zeros((5, 16, 16, 4), np.uint8), 2, 2, 2)
    images.refresh()
    assert (len(images.frames), images.is_empty) == (5, True)
    images.close()
    assert not images.frames


def test_the_loop_opens_with_the_first_picture() -> None:
    canvas, images = open_canvas()
    opened: list[int] = []
    images.opened.connect(opened.append)
    images.refresh()
    assert opened == []
    canvas.mark_preview_dirty()
    images.refresh()
    canvas.mark_preview_dirty()
    images.refresh()
    assert opened == [33]


@pytest.mark.parametrize(("frames", "expected"), [(33, [0, 1, 1, 1, 1, 2]), (5, [0, 1, 1, 1, 1]), (1, [0])])
def test_every_frame_shows_the_latent_that_it_is_decoded_from(frames: int, expected: list[int]) -> None:
    """The first latent frame decodes to one picture, every later one to four."""
    _, images = open_canvas(frames)
    order = [id(preview) for preview in images.previews]  # black images are all equal
    found = [order.index(id(images.preview_of(frame))) for frame in range(frames)]
    assert found[: len(expected)] == expected
    assert found[-1] == len(images.previews) - 1


def test_only_rows_of_the_shown_frame_are_drawn_again() -> None:
    dirty = [DirtyRows(0, 4, 0, 8), DirtyRows(4, 8, 0, 8), DirtyRows(0, 4, 8, 16)]
    assert dirty_span(dirty, 2) == (0, 16)
    assert dirty_span(dirty, 5) == (0, 8)
    assert dirty_span(dirty, 9) is None


@given(st.integers(1, 200), st.integers(1, 60), st.lists(st.floats(0, 3), max_size=20))
def test_playback_is_at_the_frame_of_its_time(count: int, fps: int, steps: list[float]) -> None:
    playback = Playback()
    playback.set_fps(fps)
    playback.open_clip(count)
    total = 0.0
    for step in steps:
        playback.advance(step)
        total += step
    exact = total * fps % count
    distance = min(abs(playback.frame + 0.5 - exact), count - abs(playback.frame + 0.5 - exact))
    assert 0 <= playback.frame < count
    assert distance <= 0.5 + 1e-6 * max(1.0, total * fps)


@given(st.integers(1, 120), st.integers(1, 60), st.data())
def test_seeking_shows_that_frame_and_plays_on_from_it(count: int, fps: int, data: st.DataObject) -> None:
    playback = Playback()
    playback.set_fps(fps)
    playback.open_clip(count)
    frame = data.draw(st.integers(0, count - 1))
    playback.seek(frame)
    assert playback.frame == frame
    playback.advance(0.0)
    assert playback.frame == frame
    playback.step(1)
    assert playback.frame == (frame + 1) % count


def test_without_a_clip_there_is_no_frame_to_seek() -> None:
    playback = Playback()
    playback.open_clip(33)
    playback.set_playing(False)
    playback.seek(20)
    playback.close_clip()
    playback.seek(0)
    assert playback.frame == 0


@given(st.floats(0.01, 60), st.integers(2, 50), st.data())
def test_time_left_is_exact_at_constant_speed(unit_seconds: float, total: int, data: st.DataObject) -> None:
    time_left = TimeLeft()
    time_left.start_job("kind", (Stage.SAMPLE, Stage.DECODE))
    time_left.start_stage(Stage.SAMPLE)
    assert time_left.stage_seconds(0.0) is None
    done = data.draw(st.integers(2, total))
    for unit in range(1, done + 1):
        time_left.progress(100 + unit * unit_seconds, unit, total)
    now = 100 + done * unit_seconds
    assert time_left.stage_seconds(now) == pytest.approx((total - done) * unit_seconds, abs=1e-6)
    assert time_left.job_seconds(now) is None, "nothing is known about decoding yet"


@given(st.floats(0.01, 60), st.integers(3, 50), st.floats(0, 1e6), st.data())
def test_time_left_keeps_room_for_what_has_not_begun(
    unit_seconds: float, total: int, late: float, data: st.DataObject
) -> None:
    """A unit that takes for ever may use up its own time, but not that of the units after it."""
    time_left = TimeLeft()
    time_left.start_job("kind", (Stage.SAMPLE,))
    time_left.start_stage(Stage.SAMPLE)
    done = data.draw(st.integers(2, total))
    for unit in range(1, done + 1):
        time_left.progress(unit * unit_seconds, unit, total)
    left = time_left.stage_seconds(done * unit_seconds + late)
    assert left is not None
    to_come = max(0, total - done - 1) * unit_seconds
    assert to_come - 1e-6 <= left <= to_come + unit_seconds + 1e-6


@pytest.mark.parametrize(("guidance", "is_known"), [(4.0, True), (7.5, True), (1.0, False)])
def test_jobs_without_guidance_are_of_another_kind(guidance: float, is_known: bool) -> None:
    """They run the model once a step instead of twice."""
    job = JobState()
    command = GenerateVideo("x", Path("out.mp4"), Path("model"), steps=3, guidance=4.0)
    for each in (command, replace(command, guidance=guidance)):
        job.submit(each)
        job.start(JobStarted(Path("job"), 256, 256, 33, 16, (Stage.SAMPLE,)))
        job.start_stage(StageStarted(Stage.SAMPLE, 1))
        for done in (1, 2):
            job.progress_stage(StageProgressed(Stage.SAMPLE, done, 3))
        known = job.seconds_left()[1] is not None
        job.finish_stage(StageFinished(Stage.SAMPLE, 9.0, 1))
        job.finish(JobFinished(Path("out.mp4"), 9.0, 1))
    assert known == is_known


def test_later_stages_are_expected_as_in_the_last_job_of_the_kind() -> None:
    time_left = TimeLeft()
    for _ in range(2):
        time_left.start_job("kind", (Stage.SAMPLE, Stage.DECODE))
        time_left.start_stage(Stage.SAMPLE)
        time_left.progress(0, 1, 10)
        time_left.progress(1, 2, 10)
        expected = time_left.job_seconds(1)
        time_left.finish_stage(Stage.SAMPLE, 10)
        time_left.finish_stage(Stage.DECODE, 30)
        time_left.finish_job()
    assert expected == pytest.approx(8 + 30)
    time_left.start_job("other kind", (Stage.SAMPLE,))
    assert time_left.job_seconds(2) is None
