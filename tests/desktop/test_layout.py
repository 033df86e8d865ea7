"""Room for everything: on small screens, in the smallest window, and with a failure that names a long path."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QLabel, QWidget

from desktop.state.job import Phase
from desktop.state.start import StartKind
from desktop.views.main_window import FIRST_SIZE, FRAME, SMALLEST_SIZE
from desktop.views.wrapped_label import BREAK, LONGEST_RUN, WrappedLabel, breakable
from engine.errors import EngineError, ErrorCode
from engine.pictures.road import PictureRoad, PictureUse
from tests.desktop.conftest import DEFAULTS, Desk, Desks
from tests.desktop.scripted_engine import Script

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints")

LONG_PATH = "/home/somebody/Videos/" + "a-name-without-any-space-in-it" * 8 + "/Tessera"


def settle(desk: Desk) -> None:
    """Let the layouts come to rest."""
    desk.qtbot.wait(50)


def assert_laid_out(desk: Desk) -> None:
    """Views side by side inside of the window, each as large as it must be, and paragraphs whole."""
    window = desk.app.window
    shown = [each for each in views(desk) if each.isVisible()]
    for view in shown:
        assert window.rect().contains(view.geometry()), view
        assert view.height() >= view.minimumSizeHint().height(), view
    for first, second in combinations(shown, 2):
        assert not first.geometry().intersects(second.geometry()), (first, second)
    for label in window.error_bar.findChildren(WrappedLabel):
        assert label.isHidden() or label.height() >= label.heightForWidth(label.width()), label.text()


def views(desk: Desk) -> tuple[QWidget, ...]:
    window = desk.app.window
    return window.panel, window.error_bar, window.preview, window.player, window.progress, window.gauge


def fail(desk: Desk) -> None:
    desk.app.show_problem(EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path=LONG_PATH, reason="Permission denied"))


@pytest.mark.parametrize("room", [QSize(3840, 2160), QSize(1366, 728), QSize(853, 432)])
def test_the_first_window_fits_the_screen(desk: Desk, room: QSize) -> None:
    window = desk.app.window
    window.fit_into(room)
    assert window.size() == FIRST_SIZE.boundedTo(room - FRAME)
    assert window.minimumSize() == SMALLEST_SIZE.boundedTo(room - FRAME)


def test_the_window_fits_its_own_screen_when_it_opens(desk: Desk) -> None:
    window = desk.app.window
    assert window.size() == window.size().boundedTo(window.screen().availableSize())


@pytest.mark.parametrize("size", [SMALLEST_SIZE, QSize(880, 560), QSize(1280, 800), QSize(853, 432) - FRAME])
def test_nothing_overlaps_at_any_size(desks: Desks, size: QSize) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0, fail_with=ErrorCode.OUT_OF_MEMORY))
    desk.app.window.fit_into(size + FRAME)
    settle(desk)
    assert_laid_out(desk)
    desk.submit(steps=1)
    desk.wait_for(Phase.FAILED)
    settle(desk)
    assert_laid_out(desk)
    desk.app.window.error_bar._toggle_details()
    settle(desk)
    assert_laid_out(desk)
    fail(desk)
    settle(desk)
    assert_laid_out(desk)


def test_on_a_low_screen_a_failure_is_readable_and_the_picture_comes_back(desk: Desk) -> None:
    window = desk.app.window
    window.fit_into(QSize(853, 432))
    fail(desk)
    settle(desk)
    assert window.error_bar.isVisible()
    assert not window.preview.isVisible()
    window.error_bar.hide()
    assert window.preview.isVisible()
    assert window.player.isVisible()


def test_a_long_path_is_shortened_in_the_sentence_and_whole_in_the_details(desk: Desk) -> None:
    fail(desk)
    bar = desk.app.window.error_bar
    title = next(label for label in bar.findChildren(QLabel) if "cannot be saved" in label.text())
    assert "/home/somebody/Videos/" in title.text().replace(BREAK, "")
    assert title.text().endswith("/Tessera: Permission denied.".replace("/", f"/{BREAK}"))
    assert len(title.text()) < 150
    assert LONG_PATH in bar._details.toPlainText()


def test_every_word_can_be_broken() -> None:
    text = f"cannot be saved to {LONG_PATH} or C:\\Users\\me"
    assert breakable(text).replace(BREAK, "") == text
    assert max(map(len, breakable(text).replace(BREAK, " ").split())) <= LONGEST_RUN
    assert breakable("plain words, nothing long") == "plain words, nothing long"


@pytest.mark.parametrize("size", [SMALLEST_SIZE, QSize(1024, 700), QSize(1280, 800)])
def test_the_page_of_memory_and_speed_has_room_at_any_size(desk: Desk, size: QSize) -> None:
    """Nothing is wider than the page, and every paragraph is as high as its words."""
    window = desk.app.window
    window.fit_into(size + FRAME)
    window.open_optimise()
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None, timeout=60_000)
    desk.app.prompt.optimise.change(replace(desk.app.prompt.optimise.values, recipe="causvid"))
    settle(desk)
    page = window.optimise
    assert window.rect().contains(page.geometry())
    for widget in page.findChildren(QWidget):
        if widget.isVisible() and widget.parentWidget() is not None:
            assert widget.mapTo(page, widget.rect().topRight()).x() <= page.width(), widget
    for label in page.findChildren(WrappedLabel):
        assert not label.isVisible() or label.height() >= label.heightForWidth(label.width()), label.text()


@pytest.mark.parametrize("size", [SMALLEST_SIZE, QSize(1280, 800)])
def test_slots_of_pictures_have_room_in_the_panel(desk: Desk, size: QSize) -> None:
    window = desk.app.window
    window.fit_into(size + FRAME)
    flf2v = replace(DEFAULTS, pictures=PictureUse(PictureRoad.CHANNELS, 2))
    desk.app.prompt.take_model(desk.app.prompt.use, flf2v, is_ready=True)
    desk.app.prompt.start.choose(StartKind.RESTYLE)
    for slot in desk.app.prompt.start.slots:
        desk.app.prompt.start.set_file(slot, Path(LONG_PATH) / f"{slot}.mp4")
    settle(desk)
    shown = [each for each in window.panel.findChildren(QWidget) if each.isVisible()]
    for widget in shown:
        right = widget.mapTo(window.panel, widget.rect().topRight()).x()
        assert right <= window.panel.width(), (widget, right)
    assert_laid_out(desk)
