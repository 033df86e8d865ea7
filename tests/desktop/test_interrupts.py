"""Ctrl+C in the terminal, and the system's wish that the program ends: the window stops its job and closes."""

import signal
from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QMessageBox

from desktop.__main__ import INTERRUPTS, close_on_interrupt
from desktop.state.job import Phase
from engine.events import Stage
from tests.desktop.conftest import Desks
from tests.desktop.scripted_engine import Script

NUMBERS = [getattr(signal, name) for name in INTERRUPTS if hasattr(signal, name)]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Pytest's own handlers again afterwards."""
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_idle_window_closes(desks: Desks, number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)  # whatever this test run was started with
    desk = desks.open()
    close_on_interrupt(desk.app)
    signal.raise_signal(number)
    desk.qtbot.waitUntil(lambda: not desk.app.window.isVisible())


def test_a_job_is_stopped_and_nobody_is_asked(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0.1))
    close_on_interrupt(desk.app)
    desk.submit()
    desk.qtbot.waitUntil(lambda: desk.app.job.stage is Stage.SAMPLE)
    for _ in range(2):  # an impatient person
        signal.raise_signal(signal.SIGTERM)
    desk.qtbot.waitUntil(lambda: not desk.app.window.isVisible())
    assert desk.app.job.phase is Phase.CANCELLED
    assert desk.app.window.findChild(QMessageBox) is None


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="a signal of Unix")
def test_what_nohup_ignores_stays_ignored(desks: Desks) -> None:
    hang_up = signal.Signals["SIGHUP"]
    signal.signal(hang_up, signal.SIG_IGN)
    close_on_interrupt(desks.open().app)
    assert signal.getsignal(hang_up) is signal.SIG_IGN
