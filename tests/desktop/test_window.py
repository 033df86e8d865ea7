"""The window as a person uses it: real widgets, real threads, a scripted engine."""

import time
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import (
    QDoubleSpinBox,
    QLabel,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QSlider,
    QWidget,
)

from desktop.state.job import Phase
from desktop.worker import JobRunner
from engine.commands import DecodeLatents, GenerateVideo
from engine.errors import ErrorCode
from engine.events import Stage
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import Script, ball_clip

# The offscreen platform says this about every dialog; it has no window manager to tell the size to.
pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints")


def painted(desk: Desk, area: QRect) -> np.ndarray:
    """What stands on the screen in `area` of the preview, [H, W, 3] in B, G, R."""
    image = desk.app.window.preview.grab(area).toImage().convertToFormat(QImage.Format.Format_RGB32)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine() // 4, 4)
    return rows[:, : image.width(), :3].astype(np.int32)


def test_from_typing_a_prompt_to_a_finished_video(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    prompt, generate = desk.child(QPlainTextEdit, "prompt"), desk.child(QPushButton, "generate")
    assert not generate.isEnabled(), "nothing to generate from"
    desk.type(prompt, "a green star rising")
    desk.click(generate)
    assert not generate.isVisible()
    desk.wait_for(Phase.FINISHED)
    command = desk.engine.commands[0]
    assert isinstance(command, GenerateVideo)
    assert (command.prompt, command.width, command.frames) == ("a green star rising", 256, 33)
    assert [file.name for file in (desk.folder / "videos").iterdir()] == ["a-green-star-rising-0.mp4"]
    assert desk.app.window.progress.show_folder.isVisible()
    assert generate.isVisible()


def test_the_picture_on_screen_is_the_engines_memory(desk: Desk) -> None:
    desk.submit()
    desk.wait_for(Phase.FINISHED)
    desk.app.playback.set_playing(False)
    desk.app.playback.seek(5)
    picture = desk.app.window.preview.picture_rect()
    shown = painted(desk, picture)
    expected = QImage(ball_clip(256, 256, 33)[5].copy().data, 256, 256, QImage.Format.Format_RGB32).scaled(
        picture.size(), Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
    rows = np.frombuffer(expected.constBits(), np.uint8).reshape(expected.height(), -1, 4)[..., :3]
    inner = slice(16, -16)  # the corners are rounded
    assert np.abs(shown - rows)[inner, inner].mean() < 2


def test_decoded_rows_replace_the_preview_from_the_top(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0, hold_at_row=128))
    desk.submit(steps=2)
    images = desk.app.images
    desk.qtbot.waitUntil(lambda: not images.is_empty and images.rows_done(32) == 128, timeout=20_000)
    desk.app.playback.set_playing(False)
    desk.app.playback.seek(0)
    picture = desk.app.window.preview.picture_rect()
    half = picture.height() // 4
    top = painted(desk, QRect(picture.left() + 40, picture.top() + 20, 200, half)).astype(float)
    clip = ball_clip(256, 256, 33)[0]
    scale = picture.height() / 256
    rows = ((np.arange(half) + 20.5) / scale).astype(int)
    columns = ((np.arange(200) + 40.5) / scale).astype(int)
    assert np.abs(top - clip[rows][:, columns, :3]).mean() < 4
    below = QRect(picture.left() + 40, picture.top() + picture.height() * 3 // 4, 200, 40)
    desk.app.images.preview_of(0).fill(Qt.GlobalColor.green)
    assert tuple(painted(desk, below)[20, 100]) == (0, 255, 0), "what is not decoded shows the preview"
    assert tuple(painted(desk, picture)[60, 100]) != (0, 255, 0)
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)


def test_escape_cancels_within_300_ms(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.2))
    desk.submit()
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE)
    began = time.monotonic()
    desk.press(Qt.Key.Key_Escape)
    desk.wait_for(Phase.CANCELLED)
    assert time.monotonic() - began < 0.3 * 3  # three times the promise: machines that test are busy
    assert not (desk.folder / "out.mp4").exists()
    desk.submit(steps=1)
    desk.wait_for(Phase.FINISHED)


def test_a_second_job_while_one_runs_is_not_taken(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.05, strip_seconds=0))
    desk.submit(steps=4)
    desk.submit(steps=1)
    desk.wait_for(Phase.FINISHED)
    assert len(desk.engine.commands) == 1


def test_failure_is_told_in_plain_words_and_can_be_continued(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0, fail_with=ErrorCode.OUT_OF_MEMORY))
    desk.submit()
    desk.wait_for(Phase.FAILED)
    bar = desk.app.window.error_bar
    texts = " ".join(label.text() for label in bar.findChildren(QLabel))
    assert "memory ran out while decoding" in texts
    assert "safe on disk" in texts
    assert "Traceback" not in texts
    technical = desk.child(QPlainTextEdit, parent=bar)
    assert technical.isHidden()
    desk.click(button(bar, "Technical details"))
    assert technical.isVisible()
    assert "MemoryError" in technical.toPlainText()
    desk.click(button(bar, "Decode again"))
    desk.wait_for(Phase.FINISHED)
    command = desk.engine.commands[-1]
    assert isinstance(command, DecodeLatents)
    assert command.latents == desk.folder / "latents.safetensors"
    assert not bar.isVisible()


def button(parent: QWidget, text: str) -> QPushButton:
    return next(each for each in parent.findChildren(QPushButton) if each.text() == text)


def test_an_engine_that_cannot_be_loaded_is_told_at_once_and_when_it_is_needed(desks: Desks) -> None:
    def broken() -> tuple[JobRunner, None]:
        raise OSError("libtorch_cpu.so: cannot open")

    desk = desks.open(load=broken)
    bar = desk.app.window.error_bar
    desk.qtbot.waitUntil(bar.isVisible)
    assert "engine could not be started" in " ".join(label.text() for label in bar.findChildren(QLabel))
    assert "libtorch_cpu.so" in desk.child(QPlainTextEdit, parent=bar).toPlainText()
    assert "Not ready" in [label.text() for label in desk.app.window.progress.findChildren(QLabel)]
    desk.submit()
    desk.wait_for(Phase.FAILED)
    assert "engine could not be started" in " ".join(label.text() for label in bar.findChildren(QLabel))
    assert desk.app.job.failure is not None
    assert desk.app.job.failure.details == {"reason": "OSError: libtorch_cpu.so: cannot open"}


def test_closing_during_a_job_asks_and_then_stops(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.1))
    desk.submit()
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE)
    desk.app.window.close()
    assert desk.app.window.isVisible()
    desk.click(button(question(desk), "Keep working"))
    assert desk.app.job.is_busy
    desk.qtbot.waitUntil(lambda: desk.app.window.findChild(QMessageBox) is None)
    desk.app.window.close()
    desk.click(button(question(desk), "Stop and close"))
    desk.qtbot.waitUntil(lambda: not desk.app.window.isVisible())
    assert desk.app.job.phase is Phase.CANCELLED


def question(desk: Desk) -> QMessageBox:
    desk.qtbot.waitUntil(lambda: desk.app.window.findChild(QMessageBox) is not None)
    return desk.child(QMessageBox)


def test_closing_without_a_job_closes_and_remembers(desks: Desks) -> None:
    desk = desks.open()
    desk.type(desk.child(QPlainTextEdit, "prompt"), "words to keep")
    desk.app.window.resize(800, 540)  # the offscreen screen is 800 x 600
    desk.app.window.close()
    desk.qtbot.waitUntil(lambda: not desk.app.window.isVisible())
    again = desks.open()
    assert again.app.prompt.values.prompt == "words to keep"
    assert again.app.window.height() == 540


def test_space_holds_and_the_slider_scrubs(desk: Desk) -> None:
    desk.submit()
    desk.wait_for(Phase.FINISHED)
    playback = desk.app.playback
    seen: set[int] = set()
    playback.frame_changed.connect(seen.add)
    desk.qtbot.waitUntil(lambda: len(seen) >= 5)
    desk.app.window.setFocus()
    desk.press(Qt.Key.Key_Space)
    assert not playback.is_playing
    held = playback.frame
    desk.qtbot.wait(150)
    assert playback.frame == held
    slider = next(each for each in desk.app.window.player.findChildren(QSlider))
    slider.setValue(20)
    assert playback.frame == 20
    desk.press(Qt.Key.Key_Right, Qt.KeyboardModifier.ControlModifier)
    assert playback.frame == 21


def test_a_size_that_is_not_legal_is_made_larger_and_cut(desk: Desk) -> None:
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="x", width=200))
    note = desk.child(QLabel, "sizeNote")
    assert note.isVisible()
    assert note.text() == "Made as 224 × 256, then cut to 200 × 256."
    desk.app.jobs.generate()
    desk.wait_for(Phase.FINISHED)
    assert isinstance(desk.engine.commands[0], GenerateVideo)
    assert (desk.engine.commands[0].width, desk.engine.commands[0].height) == (200, 256)
    desk.app.prompt.change(replace(desk.app.prompt.values, width=256))
    assert not note.isVisible()


def test_a_size_that_no_video_has_is_explained_before_anything_runs(desk: Desk) -> None:
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="x", width=201))
    generate = desk.child(QPushButton, "generate")
    assert not generate.isEnabled()
    texts = " ".join(label.text() for label in desk.app.window.panel.findChildren(QLabel))
    assert "200 × 256" in texts
    desk.app.jobs.generate()
    assert not desk.engine.commands


def test_typed_numbers_reach_the_command(desk: Desk) -> None:
    fields = desk.app.window.panel.findChildren(QDoubleSpinBox)
    by_name = {field.accessibleName(): field for field in fields}
    for name, typed in (("Frames", "30"), ("Steps", "12"), ("Guidance", "5.5")):
        by_name[name].selectAll()
        desk.type(by_name[name], typed)
        desk.press(Qt.Key.Key_Return, widget=by_name[name])
    values = desk.app.prompt.values
    assert (values.frames, values.steps, values.guidance) == (29, 12, 5.5), "30 is no 4n+1: the nearer one is 29"
    seed = desk.child(QLineEdit, "seed")
    seed.selectAll()
    desk.type(seed, "9007199254740993")  # beyond 32 bits and beyond what a double holds
    assert desk.app.prompt.values.seed == 9007199254740993


def test_a_video_folder_that_cannot_be_made_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = desk.folder / "file"
    blocked.touch()
    monkeypatch.setattr(type(desk.app.settings), "video_folder", blocked / "videos")
    bar = desk.app.window.error_bar
    for action in (desk.app.jobs.open_video_folder, desk.app.jobs.generate):
        desk.app.prompt.change(replace(desk.app.prompt.values, prompt="x"))
        bar.hide()
        action()
        assert bar.isVisible()
        assert "cannot be saved to" in " ".join(label.text() for label in bar.findChildren(QLabel))
    assert not desk.engine.commands


def test_predictions_and_peaks_reach_the_gauge(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0, hold_at_row=64))
    desk.submit(steps=2)
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.DECODE, timeout=20_000)
    gauge = desk.app.window.gauge
    assert (gauge._predicted.figure, gauge._budget.figure) == ("640 MB", "1.5 GB")
    assert (desk.app.memory.peak_bytes or 0) >= 610 << 20, "the engine's own maximum of the stage before"
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)
    desk.qtbot.waitUntil(lambda: gauge._predicted.figure == "600 MB")  # what the next decode will take
    assert gauge._budget.figure == "1.0 GB"
