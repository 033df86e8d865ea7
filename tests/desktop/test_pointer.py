"""The window under the mouse: where a press on a slider goes, and what the wheel must leave alone."""

import pytest
from PySide6.QtCore import QPoint, QPointF, QSize, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractSpinBox, QComboBox, QScrollArea, QSlider, QWidget

from desktop.state.job import Phase
from desktop.views.seek_slider import SeekSlider
from tests.desktop.conftest import Desk


def scrub(desk: Desk) -> SeekSlider:
    desk.submit(steps=1)
    desk.wait_for(Phase.FINISHED)
    desk.qtbot.waitUntil(lambda: desk.app.playback.has_clip)
    return desk.child(SeekSlider)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_a_press_seeks_there_and_holds(desk: Desk, share: float) -> None:
    slider, playback = scrub(desk), desk.app.playback
    x = round(7 + share * (slider.width() - 14))  # the handle's middle cannot reach the ends
    QTest.mouseClick(slider, Qt.MouseButton.LeftButton, pos=QPoint(x, slider.height() // 2))
    assert not playback.is_playing
    assert playback.frame == round(share * 32)


def test_a_press_can_be_dragged_on(desk: Desk) -> None:
    slider = scrub(desk)
    middle = slider.height() // 2
    QTest.mousePress(slider, Qt.MouseButton.LeftButton, pos=QPoint(slider.width() // 4, middle))
    QTest.mouseMove(slider, QPoint(slider.width() * 3 // 4, middle))
    assert desk.app.playback.frame == pytest.approx(24, abs=1)
    QTest.mouseRelease(slider, Qt.MouseButton.LeftButton, pos=QPoint(slider.width() * 3 // 4, middle))
    assert not slider.isSliderDown()


def test_the_other_buttons_do_not_seek(desk: Desk) -> None:
    slider = scrub(desk)
    QTest.mouseClick(slider, Qt.MouseButton.RightButton, pos=QPoint(slider.width() - 20, 5))
    assert desk.app.playback.is_playing


def test_a_shorter_clip_begins_at_its_first_frame(desk: Desk) -> None:
    """The scrubber's range shrinks under its handle, which is not a wish to seek."""
    scrub(desk)
    desk.app.playback.set_playing(False)
    desk.app.playback.seek(20)
    desk.app.playback.open_clip(5)
    assert desk.app.playback.frame == 0


def wheel(desk: Desk, widget: QWidget, turn: int) -> None:
    """Turn the wheel over the middle of `widget`, as the system would say it to the window."""
    at = QPointF(widget.mapTo(desk.app.window, widget.rect().center()))
    QTest.wheelEvent(desk.app.window.windowHandle(), at, QPoint(0, turn))
    desk.qtbot.wait(20)


@pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints")
def test_the_wheel_scrolls_the_panel_and_changes_no_setting_on_its_way(desk: Desk) -> None:
    desk.app.window.fit_into(QSize(853, 432))
    area = desk.child(QScrollArea)
    before, bar = desk.app.prompt.values, area.verticalScrollBar()
    desk.qtbot.waitUntil(lambda: bar.maximum() > 0)
    settings = [each for kind in (QAbstractSpinBox, QSlider, QComboBox) for each in area.findChildren(kind)]
    shown = [setting for setting in settings if setting.isVisible()]
    assert len(shown) == 10
    for setting in shown:
        area.ensureWidgetVisible(setting)
        place = bar.value()
        wheel(desk, setting, -120 if place < bar.maximum() else 120)
        assert desk.app.prompt.values == before
        assert not setting.hasFocus()
        assert bar.value() != place


def test_the_wheel_turns_what_has_the_focus(desk: Desk) -> None:
    steps = next(each for each in desk.app.window.findChildren(QAbstractSpinBox) if each.accessibleName() == "Steps")
    desk.app.window.activateWindow()
    assert QTest.qWaitForWindowActive(desk.app.window)
    steps.setFocus()
    wheel(desk, steps, -120)
    assert desk.app.prompt.values.steps == 19
