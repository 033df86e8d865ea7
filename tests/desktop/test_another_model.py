"""What the settings of memory and speed become when another model is chosen."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton, QSpinBox

from desktop.state.model_use import ModelUse
from desktop.state.optimise import OptimiseValues
from desktop.state.prompt import PromptState
from engine.card_presets import GIB
from engine.commands import EMBEDDED_MODEL
from engine.generation import SamplingSettings, Solver
from tests.desktop.conftest import DEFAULTS, Desk, Desks
from tests.desktop.scripted_engine import MIB, Script
from tests.desktop.test_optimise import SHELL, control, last, note, show_card

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")
OTHER = replace(DEFAULTS, name="other", steps=50)
TUNED = OptimiseValues(
    SamplingSettings(resident_blocks=32, chunk_tokens=4096),
    solver=Solver.DPMPP_2M,
    recipe="lightx2v_4",
    budget_bytes=GIB,
    residents_of_preset=True,
)


@pytest.fixture
def page(desks: Desks) -> Desk:
    """A window with the page open, a card of 12 GB, a model of 40 blocks, and a first answer of the engine."""
    desk = desks.open(Script(block_bytes=20 * MIB))
    show_card(desk)
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None, timeout=60_000)
    desk.press(Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    return desk


def choose_model_of(desk: Desk, blocks: int) -> None:
    desk.engine.script.blocks = blocks
    desk.app.prompt.change(replace(desk.app.prompt.values, prompt="x"))
    asked = len(desk.engine.plans)
    desk.app.prompt.take_model(desk.app.prompt.use, OTHER, is_ready=True)
    desk.qtbot.waitUntil(lambda: len(desk.engine.plans) > asked)


def test_what_is_meant_for_one_model_stays_with_it() -> None:
    prompt = PromptState(EMBEDDED_MODEL, DEFAULTS)
    prompt.optimise.change(TUNED)
    prompt.take_model(ModelUse(Path("other")), OTHER, is_ready=True)
    assert prompt.optimise.values == OptimiseValues(SamplingSettings(chunk_tokens=4096), budget_bytes=GIB)
    command = prompt.command(Path("x"))
    assert (command.steps, command.times, command.guidance, command.solver) == (50, (), 4.0, Solver.UNIPC)


def test_the_same_model_in_another_form_keeps_all() -> None:
    prompt = PromptState(EMBEDDED_MODEL, DEFAULTS)
    prompt.optimise.change(TUNED)
    prompt.take_model(ModelUse(Path("the same in 8 bits")), DEFAULTS, is_ready=True)
    assert prompt.optimise.values == TUNED


def test_what_was_stored_with_a_model_awaits_its_defaults_and_not_those_of_another() -> None:
    """The chosen model of last time is in use before its file was found and read."""
    prompt, chosen = PromptState(EMBEDDED_MODEL, DEFAULTS), ModelUse(Path("chosen"))
    prompt.take_model(chosen, None, is_ready=False)
    prompt.restore_optimise(TUNED)
    prompt.take_model(chosen, OTHER, is_ready=True)
    assert prompt.optimise.values == TUNED
    prompt.take_model(ModelUse(Path("a third")), DEFAULTS, is_ready=True)
    assert prompt.optimise.values.recipe is None
    prompt.optimise.change(TUNED)
    prompt.take_model(chosen, OTHER, is_ready=True)
    assert prompt.optimise.values.recipe is None, "restored is only once"


def test_blocks_of_the_preset_do_not_go_on_to_the_next_model(page: Desk) -> None:
    page.app.prompt.optimise.set_budget(8 * GIB)
    page.click(page.child(QPushButton, "usePreset"))
    page.qtbot.waitUntil(lambda: last(page).sampling.resident_blocks == 32)
    choose_model_of(page, blocks=6)
    page.qtbot.waitUntil(lambda: page.app.prompt.outlook.outlook is not None)
    assert last(page).sampling.resident_blocks is None
    assert page.child(QPushButton, "generate").isEnabled()


def test_blocks_of_the_preset_that_the_model_has_not_give_way(page: Desk) -> None:
    page.app.prompt.optimise.set_budget(8 * GIB)
    page.click(page.child(QPushButton, "usePreset"))
    page.qtbot.waitUntil(lambda: last(page).sampling.resident_blocks == 32)
    page.engine.script.blocks = 6  # as in another file under the same name
    page.app.prompt.optimise.set_budget(9 * GIB)
    page.qtbot.waitUntil(lambda: page.app.card.gave_way == 32)
    page.qtbot.waitUntil(lambda: page.app.prompt.outlook.outlook is not None)
    assert page.app.prompt.outlook.refusal is None


@pytest.mark.parametrize("leave", ["another model", "defaults"])
def test_that_blocks_gave_way_is_not_said_of_others(page: Desk, leave: str) -> None:
    page.app.prompt.optimise.set_budget(SHELL + 26 * 20 * MIB)
    page.click(page.child(QPushButton, "usePreset"))
    blocks = control(page, QSpinBox, "Blocks on the card")
    page.qtbot.waitUntil(lambda: "do not fit" in note(blocks))
    if leave == "another model":
        choose_model_of(page, blocks=6)
    else:
        page.app.prompt.restore_defaults()
    page.qtbot.wait(300)
    assert "do not fit" not in note(blocks)
    assert page.app.card.gave_way is None
