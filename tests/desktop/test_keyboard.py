"""The window without a mouse: what keys reach, and what they must not do by surprise."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QLineEdit, QPlainTextEdit, QPushButton, QSpinBox, QWidget

from desktop.state.job import Phase
from engine.commands import DecodeLatents, GenerateVideo
from engine.errors import ErrorCode
from engine.events import Stage
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import Script

CONTROL = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def active(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A window that has the keyboard, with words to work from."""
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    return activate(desk)


def activate(desk: Desk) -> Desk:
    desk.type(desk.child(QPlainTextEdit, "prompt"), "a red ball")
    desk.app.window.activateWindow()
    assert QTest.qWaitForWindowActive(desk.app.window)
    return desk


def press_focused(desk: Desk, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    """Press a key as the system would, which gives it to whatever has the focus."""
    handle = desk.app.window.windowHandle()
    QTest.keyClick(handle, key, modifier)


def focus(widget: QWidget) -> None:
    widget.setFocus()
    assert widget.hasFocus()


@pytest.mark.parametrize(("name", "typed", "field"), [("Steps", "12", "steps"), ("Frames", "30", "frames")])
def test_a_number_that_is_still_being_typed_counts(active: Desk, name: str, typed: str, field: str) -> None:
    box = next(each for each in active.app.window.findChildren(QDoubleSpinBox) if each.accessibleName() == name)
    focus(box)
    box.selectAll()
    active.type(box, typed)
    press_focused(active, Qt.Key.Key_Return, CONTROL)
    active.wait_for(Phase.FINISHED)
    assert getattr(active.engine.commands[0], field) == {"12": 12, "30": 29}[typed]


def test_a_budget_that_is_still_being_typed_counts_when_decoding_again(desks: Desks) -> None:
    desk = activate(desks.open(Script(sample_seconds=0, strip_seconds=0, fail_with=ErrorCode.OUT_OF_MEMORY)))
    desk.submit()
    desk.wait_for(Phase.FAILED)
    budget = next(each for each in desk.app.window.findChildren(QSpinBox) if each.accessibleName() == "Memory budget")
    focus(budget)
    budget.selectAll()
    desk.type(budget, "700")
    desk.app.jobs.decode_again()
    desk.wait_for(Phase.FINISHED)
    command = desk.engine.commands[-1]
    assert isinstance(command, DecodeLatents)
    assert command.decode.budget_bytes == 700 << 20


@pytest.mark.parametrize("key", [Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter])
def test_a_focused_button_is_pressed(active: Desk, key: Qt.Key) -> None:
    focus(active.child(QPushButton, "generate"))
    press_focused(active, key)
    active.wait_for(Phase.FINISHED)
    assert isinstance(active.engine.commands[0], GenerateVideo)


@pytest.mark.qt_log_ignore("This plugin does not support")  # what pop-ups ask of a window system
def test_space_opens_a_focused_list(active: Desk) -> None:
    sizes = active.child(QComboBox)
    focus(sizes)
    press_focused(active, Qt.Key.Key_Space)
    assert sizes.view().isVisible()
    sizes.hidePopup()


def test_space_is_a_letter_in_the_prompt_and_plays_elsewhere(active: Desk) -> None:
    prompt = active.child(QPlainTextEdit, "prompt")
    focus(prompt)
    press_focused(active, Qt.Key.Key_Space)
    assert prompt.toPlainText() == "a red ball "
    assert active.app.playback.is_playing
    focus(active.app.window.preview)
    press_focused(active, Qt.Key.Key_Space)
    assert not active.app.playback.is_playing


def test_pressing_generate_twice_does_not_cancel(desks: Desks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The button goes away, and the focus must not go on to the one that stops the job."""
    desk = activate(desks.open(Script(sample_seconds=0.1)))
    monkeypatch.setattr(type(desk.app.settings), "video_folder", desk.folder / "videos")
    focus(desk.child(QPushButton, "generate"))
    for _ in range(2):
        press_focused(desk, Qt.Key.Key_Space)
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE)
    assert desk.app.window.preview.hasFocus()
    focus(desk.child(QPushButton, "cancel"))
    press_focused(desk, Qt.Key.Key_Space)
    desk.wait_for(Phase.CANCELLED)
    assert desk.app.window.preview.hasFocus()


def test_typing_on_during_a_job_is_not_disturbed(active: Desk) -> None:
    prompt = active.child(QPlainTextEdit, "prompt")
    focus(prompt)
    press_focused(active, Qt.Key.Key_Return, CONTROL)
    active.wait_for(Phase.FINISHED)
    assert prompt.hasFocus()


def test_the_picture_shows_that_it_has_the_focus(active: Desk) -> None:
    preview = active.app.window.preview
    before = preview.grab().toImage()
    focus(preview)
    assert preview.grab().toImage() != before


def test_the_seed_is_shown_from_the_start_and_again_when_left_empty(active: Desk) -> None:
    seed = active.child(QLineEdit, "seed")
    assert seed.text() == "0"
    focus(seed)
    seed.selectAll()
    press_focused(active, Qt.Key.Key_Backspace)
    assert seed.text() == "", "what is being edited is left alone"
    active.app.prompt.values_changed.emit()
    assert seed.text() == ""
    focus(active.app.window.preview)
    assert seed.text() == "0"
    assert active.app.prompt.values.seed == 0
