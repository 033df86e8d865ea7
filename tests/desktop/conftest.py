"""The real window around a scripted engine, and leak detectors for every desktop test."""

import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import hypothesis
import pytest
from PySide6.QtCore import QSettings, Qt, QThread, QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot
from shiboken6 import isValid

from desktop.app import App
from desktop.settings import Settings
from desktop.state.job import Phase
from desktop.state.prompt import PromptState
from desktop.worker import AllocatorSource, LoadEngine
from engine.presets import ModelDefaults
from tests.desktop.scripted_engine import Script, ScriptedEngine
from tests.fake_nvml.fixtures import fake_driver, fake_library

__all__ = ["fake_driver", "fake_library"]

# Machines that test are busy: how long one example takes says nothing about the code.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

NO_MODIFIER = Qt.KeyboardModifier.NoModifier
Widget = TypeVar("Widget", bound=QWidget)
DEFAULTS = ModelDefaults("mini", 256, 256, 33, 16, 20, 4.0, 3.0, ((256, 256),), 32)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail the test that leaves a thread or a timer running."""
    yield
    gc.collect()
    objects = gc.get_objects()  # by type and not by isinstance, which would wake lazy modules of other packages
    alive = [each for each in objects if issubclass(type(each), QThread | QTimer) and isValid(each)]
    threads = [each.objectName() for each in alive if isinstance(each, QThread) and each.isRunning()]
    timers = [each.parent() for each in alive if type(each) is QTimer and each.isActive()]
    assert not threads, f"threads left running: {threads}"
    assert not timers, f"timers left running: {timers}"


@dataclass
class Desk:
    """The window under test with what drives it."""

    app: App
    engine: ScriptedEngine
    folder: Path
    qtbot: QtBot

    def submit(self, **fields: object) -> None:
        prompt = self.app.prompt
        prompt.change(replace(prompt.values, prompt="a red ball"))
        self.app.jobs.submit(replace(prompt.command(self.folder / "out.mp4"), **fields))  # type: ignore[arg-type]

    def child(self, kind: type[Widget], name: str = "", parent: QWidget | None = None) -> Widget:
        """The widget of this kind in `parent` or in the window; it must be there."""
        found = (
            (parent or self.app.window).findChild(kind, name) if name else (parent or self.app.window).findChild(kind)
        )
        assert isinstance(found, kind), f"no {kind.__name__} {name}"
        return found

    def click(self, widget: QWidget) -> None:
        QTest.mouseClick(widget, Qt.MouseButton.LeftButton)

    def type(self, widget: QWidget, text: str) -> None:
        QTest.keyClicks(widget, text)

    def press(self, key: Qt.Key, modifier: Qt.KeyboardModifier = NO_MODIFIER, widget: QWidget | None = None) -> None:
        QTest.keyClick(widget or self.app.window, key, modifier)

    def wait_for(self, phase: Phase, timeout: int = 20_000) -> None:
        self.qtbot.waitUntil(lambda: self.app.job.phase is phase, timeout=timeout)


class Desks:
    """Builds windows and tears them down in the order the program does."""

    def __init__(self, qapp: QApplication, qtbot: QtBot, folder: Path) -> None:
        self._qapp, self._qtbot, self._folder = qapp, qtbot, folder
        self._open: list[Desk] = []

    def open(
        self,
        script: Script | None = None,
        allocator: AllocatorSource | None = None,
        load: LoadEngine | None = None,
        model: Path | None = None,
        *,
        with_chosen_model: bool = True,
    ) -> Desk:
        engine = ScriptedEngine(self._folder, script)
        store = QSettings(str(self._folder / "settings.ini"), QSettings.Format.IniFormat)
        prompt = PromptState(model or self._folder, DEFAULTS)
        app = App(self._qapp, load or (lambda: (engine, allocator)), prompt, Settings(store))
        desk = Desk(app, engine, self._folder, self._qtbot)
        self._open.append(desk)
        app.start(with_chosen_model=with_chosen_model)
        self._qtbot.waitExposed(app.window)
        return desk

    def close_all(self) -> None:
        for desk in self._open:
            assert desk.app.shut_down(), "the engine thread did not end"
            desk.app.window.may_close = True
            desk.app.window.close()
            desk.app.window.deleteLater()
            desk.app.deleteLater()
        self._open.clear()
        self._qapp.sendPostedEvents(None, 0)


@pytest.fixture
def desks(qapp: QApplication, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desks]:
    # Jobs of whoever runs the tests are none of theirs.
    monkeypatch.setattr("desktop.state.interrupted.default_jobs_folder", lambda: tmp_path / "jobs")
    opened = Desks(qapp, qtbot, tmp_path)
    yield opened
    opened.close_all()


@pytest.fixture
def desk(desks: Desks) -> Desk:
    """A window whose engine is loaded."""
    return desks.open()
