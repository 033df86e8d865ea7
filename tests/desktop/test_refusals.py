"""What the window says when the engine refuses the settings, and when it cannot be asked."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QPushButton, QSpinBox, QWidget

from desktop.state.decode import DecodeChoice
from desktop.state.job import Phase
from desktop.views.stage_bars import StageBars
from engine.decode.tiling import ReferenceTiling
from engine.events import Stage
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import MIB, Script
from tests.desktop.test_optimise import control, said

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")
SENTENCE = "41 is not possible for “blocks on the card”. Allowed: 0 to 40."


@pytest.fixture
def page(desks: Desks) -> Desk:
    """A window with words, the page open, and a first answer of the engine."""
    desk = desks.open(Script(sample_seconds=0.05))
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="x"))
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None, timeout=60_000)
    desk.press(Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    return desk


def shown(widget: QWidget) -> str:
    labels = (each for each in widget.findChildren(QLabel) if each.isVisibleTo(widget))
    return " ".join(label.text().replace("\u200b", "") for label in labels)


def test_settings_that_the_engine_refuses_are_told_where_generate_is_and_on_the_page(page: Desk) -> None:
    blocks = control(page, QSpinBox, "Blocks on the card")
    assert isinstance(blocks, QSpinBox)
    blocks.setValue(41)
    page.qtbot.waitUntil(lambda: page.app.prompt.outlook.is_invalid)
    assert not page.child(QPushButton, "generate").isEnabled()
    assert (said(page, "problem"), said(page, "optimiseProblem")) == (SENTENCE, SENTENCE)
    assert "Planning" not in shown(page.app.window.optimise) + shown(page.app.window.panel)
    assert page.child(QPushButton, "optimise").text() == "Not possible"
    assert "Not possible" not in shown(page.app.window.panel.decode_panel), "decoding is not to blame"
    page.click(page.app.window.panel.decode_panel._title)
    assert "Planning" not in shown(page.app.window.panel.decode_panel)
    blocks.setValue(40)
    page.qtbot.waitUntil(lambda: not page.app.prompt.outlook.is_invalid)
    assert page.child(QPushButton, "generate").isEnabled()
    assert (said(page, "problem"), said(page, "optimiseProblem")) == ("", "")


def test_a_refused_way_to_decode_is_told_at_decoding_too(page: Desk) -> None:
    decode = page.app.prompt.decode
    decode.choose(DecodeChoice.REFERENCE)
    decode.change(replace(decode.values, tiling=ReferenceTiling(tile_width=251)))
    page.qtbot.waitUntil(lambda: page.app.prompt.outlook.is_invalid)
    assert "Not possible" in shown(page.app.window.panel.decode_panel)
    assert "“width of a tile”" in said(page, "problem")


def test_what_is_changed_while_a_job_runs_is_planned_after_it_and_that_is_said(page: Desk) -> None:
    page.submit(steps=200)
    page.qtbot.waitUntil(lambda: page.app.job.stage is Stage.SAMPLE, timeout=20_000)
    page.press(Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    button, budget = page.child(QPushButton, "optimise"), page.app.prompt.optimise.values.budget_bytes
    before, asked = button.text(), len(page.engine.plans)
    page.app.prompt.optimise.set_budget(64 * MIB)
    page.qtbot.waitUntil(lambda: button.text() == "After the running job")
    assert said(page, "optimiseSampling") == "The plan for these settings comes after the running job."
    assert not page.child(StageBars).isVisible()
    page.app.prompt.optimise.set_budget(budget)
    page.qtbot.waitUntil(lambda: button.text() == before)
    page.app.prompt.change(replace(page.app.prompt.values, frames=5))
    page.qtbot.waitUntil(lambda: button.text() == "After the running job")
    assert len(page.engine.plans) == asked
    page.app.jobs.cancel()
    page.wait_for(Phase.CANCELLED)
    page.qtbot.waitUntil(lambda: button.text().startswith("Fits: "))
    assert page.engine.plans[-1].command.frames == 5
