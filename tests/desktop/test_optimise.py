"""The page of memory and speed: the preset, the bars, every setting, and what the engine says to it."""

from dataclasses import replace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QLabel, QPushButton, QScrollArea, QSpinBox, QWidget

from desktop.backend_words import backend_name, compile_text, unavailable_text
from desktop.optimise_words import fit_text, recipe_name, residents_text, sampling_text, solver_name, weights_name
from desktop.state.job import Phase
from desktop.state.memory import MemorySample
from desktop.state.optimise import OptimiseValues, optimise_from, optimise_text
from desktop.views.choice_box import ChoiceBox
from desktop.views.option_row import OptionRow
from desktop.views.stage_bars import StageBars
from engine.attention.availability import Reason
from engine.card_presets import GIB, distilled_recipes
from engine.commands import EMBEDDED_MODEL, BackendState, GenerateVideo
from engine.denoise.compiled import CompileReason
from engine.events import SamplingFigures, Stage
from engine.generation import AttentionBackend, SamplingSettings, Solver
from engine.model_choice import WeightForm
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import MIB, Script

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")
SHELL = 60 * MIB  # beside the blocks of the double


@pytest.fixture
def page(desks: Desks) -> Desk:
    """A window with the page open, a card of 12 GB, and a first answer of the engine."""
    desk = desks.open(Script(block_bytes=20 * MIB))
    show_card(desk)
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None, timeout=60_000)
    desk.press(Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    assert desk.app.window.optimise.isVisible()
    return desk


def show_card(desk: Desk) -> None:
    """What the gauge would read from a card, in the place of this computer."""
    desk.app.threads.monitor.sampled.disconnect(desk.app.memory.add)
    desk.app.memory.add(MemorySample("NVIDIA GeForce RTX 4070", None, 12282 * MIB, GIB, GIB))


def said(desk: Desk, name: str) -> str:
    label = desk.child(QLabel, name)
    return label.text().replace("\u200b", "") if label.isVisibleTo(desk.app.window) else ""


def control(desk: Desk, kind: type[QWidget], name: str) -> QWidget:
    fields = desk.app.window.optimise.fields.findChildren(kind)
    return next(each for each in fields if name in (each.accessibleName(), each.property("text")))


def note(widget: QWidget) -> str:
    row = widget.parentWidget()
    assert isinstance(row, OptionRow)
    return row.note


def last(desk: Desk) -> GenerateVideo:
    return desk.engine.plans[-1].command


def wait_for_question(desk: Desk, **sampling: object) -> None:
    wanted = replace(SamplingSettings(), **sampling)  # type: ignore[arg-type]
    desk.qtbot.waitUntil(lambda: last(desk).sampling == wanted)
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None)


def test_the_preset_is_found_and_told_with_what_cannot_be_had(page: Desk) -> None:
    assert said(page, "presetTitle") == "Preset for cards of 12 to 16 GB"
    words = " ".join(label.text().replace("\u200b", "") for label in page.app.window.optimise.findChildren(QLabel))
    assert "NVIDIA GeForce RTX 4070 has 12.0 GB." in words
    assert "Attention FlashAttention, exact" in said(page, "presetText")
    assert "32 of 40" in said(page, "presetText"), "33 frames are as many as the model makes; the fewest blocks wait"
    assert "Not SageAttention, 8 bits: The package sageattention is not installed." in words
    assert page.app.prompt.optimise.values == OptimiseValues(), "nothing is used before the person asks for it"


def test_the_preset_is_used_as_a_whole_and_left_again(page: Desk) -> None:
    page.app.prompt.optimise.set_budget(8 * GIB)
    page.click(page.child(QPushButton, "usePreset"))
    wait_for_question(page, attention=AttentionBackend.FLASH_ATTN, resident_blocks=32)
    assert page.child(QPushButton, "usePreset").text() == "The preset is in use"
    assert not page.child(QPushButton, "usePreset").isEnabled()
    page.click(page.child(QPushButton, "resetOptimise"))
    assert page.app.prompt.optimise.values == OptimiseValues(budget_bytes=8 * GIB), "the budget is the person's"


def test_blocks_of_the_preset_give_way_where_they_do_not_fit(page: Desk) -> None:
    """The budget of the double holds 24 blocks of 20 MiB and the shell; the preset would keep 32."""
    page.app.prompt.optimise.set_budget(SHELL + 26 * 20 * MIB)
    page.click(page.child(QPushButton, "usePreset"))
    wait_for_question(page, attention=AttentionBackend.FLASH_ATTN)
    blocks = control(page, QSpinBox, "Blocks on the card")
    assert note(blocks) == "32 blocks on the card, as the preset has it, do not fit: Tessera chooses how many."
    page.qtbot.waitUntil(lambda: "24 of 40 blocks stay on the card" in said(page, "optimiseSampling"))
    assert page.child(QPushButton, "usePreset").text() == "The preset is in use"


def test_blocks_chosen_by_hand_do_not_give_way_but_are_told_not_to_fit(page: Desk) -> None:
    page.app.prompt.optimise.set_budget(SHELL + 26 * 20 * MIB)
    blocks = control(page, QSpinBox, "Blocks on the card")
    assert isinstance(blocks, QSpinBox)
    blocks.setValue(30)
    page.qtbot.waitUntil(lambda: page.app.prompt.outlook.is_over_budget)
    assert said(page, "optimiseProblem") == "This does not fit. The smallest budget that would is 700 MB."
    assert page.child(QPushButton, "optimise").text() == "Does not fit"
    assert last(page).sampling.resident_blocks == 30
    assert page.app.window.gauge._budget._name.text() == "Budget too small"
    blocks.setValue(0)
    page.qtbot.waitUntil(lambda: not page.app.prompt.outlook.is_over_budget)
    assert last(page).sampling.resident_blocks == 0, "none is a number as any other"
    blocks.setValue(-1)
    assert page.app.prompt.optimise.values.sampling.resident_blocks is None


def test_the_bars_are_those_of_the_stages(page: Desk) -> None:
    bars = page.child(StageBars)
    assert [stage.stage for stage in bars._stages] == [Stage.TEXT, Stage.SAMPLE, Stage.DECODE]
    assert bars.end_bytes == 12282 * MIB
    assert bars._scale.budget_bytes == page.app.prompt.outlook.budget_bytes
    assert "Sampling" in bars.accessibleName()
    assert page.child(QPushButton, "optimise").text().startswith("Fits: ")
    highest = page.app.prompt.outlook.highest
    assert highest is not None
    assert page.app.window.gauge._predicted._name.text() == "Sampling needs"


def test_back_ends_that_cannot_be_used_are_grey_and_say_why(page: Desk) -> None:
    box = control(page, QComboBox, "Attention")
    assert isinstance(box, ChoiceBox)
    greyed = [not (box.model().index(i, 0).flags() & Qt.ItemFlag.ItemIsEnabled) for i in range(box.count())]
    assert greyed == [False, False, True, True, True, True]
    hints = [box.itemData(i, Qt.ItemDataRole.ToolTipRole) for i in range(box.count())]
    assert "compute capability 12.0" in hints[3]
    assert hints[5] == "Not available here (phase_of_the_moon).", "a code without words is told as it is"
    page.press(Qt.Key.Key_End, widget=box)
    assert page.app.prompt.optimise.values.sampling.attention is AttentionBackend.FLASH_ATTN, "the last one possible"


def test_every_setting_reaches_the_command(page: Desk) -> None:
    for name in ("Both passes of guidance at once", "Round what meets quantised weights"):
        page.click(control(page, QCheckBox, name))
    tokens = control(page, QSpinBox, "Tokens at a time")
    assert isinstance(tokens, QSpinBox)
    tokens.setValue(4096)
    compiling = control(page, QCheckBox, "Compile the blocks for this card")
    assert not compiling.isEnabled()
    assert note(compiling) == "There is no compiler on this computer."
    page.app.window.optimise.fields._cache.setValue(0.05)
    wait_for_question(page, joint_guidance=True, chunk_tokens=4096, step_cache=0.05)
    assert last(page).rounds_input
    page.submit(steps=1)
    page.wait_for(Phase.FINISHED)
    command = page.engine.commands[0]
    assert isinstance(command, GenerateVideo)
    assert (command.sampling, command.rounds_input) == (last(page).sampling, True)


def test_a_distilled_recipe_decides_steps_guidance_shift_and_solver(page: Desk) -> None:
    optimise, prompt = page.app.prompt.optimise, page.app.prompt
    optimise.change(replace(optimise.values, recipe="lightx2v_4"))
    command = prompt.command(page.folder)
    assert (command.times, command.steps) == ((1000, 750, 500, 250), 4)
    assert (command.shift, command.guidance, command.solver) == (5, 1, Solver.EULER)
    steps = next(each for each in page.app.window.panel.video.findChildren(QWidget) if each.accessibleName() == "Steps")
    assert not steps.isEnabled()
    assert not control(page, QComboBox, "Solver").isEnabled()
    optimise.change(replace(optimise.values, recipe=None))
    assert (prompt.command(page.folder).times, prompt.command(page.folder).steps) == ((), prompt.values.steps)


def test_escape_and_a_job_close_the_page(page: Desk) -> None:
    page.press(Qt.Key.Key_Escape)
    assert not page.app.window.optimise.isVisible()
    assert page.app.window.preview.isVisible()
    page.press(Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    page.press(Qt.Key.Key_M, Qt.KeyboardModifier.ControlModifier)
    assert page.app.window.models.isVisible()
    assert not page.app.window.optimise.isVisible(), "of the pages one at a time"
    page.submit(steps=1)
    assert page.app.window.preview.isVisible()
    page.wait_for(Phase.FINISHED)


def test_settings_are_there_at_the_next_start(desks: Desks) -> None:
    desk = desks.open(model=EMBEDDED_MODEL)
    values = OptimiseValues(
        SamplingSettings(AttentionBackend.FLASH_ATTN, 20), solver=Solver.DPMPP_2M, recipe="causvid", budget_bytes=GIB
    )
    desk.app.prompt.optimise.change(values)
    desk.app.window.close()
    desk.qtbot.waitUntil(lambda: not desk.app.window.isVisible())
    assert desks.open(model=EMBEDDED_MODEL).app.prompt.optimise.values == values


@pytest.mark.parametrize("is_demo", [False, True])
def test_a_model_for_this_time_only_and_a_demo_leave_the_stored_settings_alone(desks: Desks, is_demo: bool) -> None:
    stored = OptimiseValues(SamplingSettings(resident_blocks=20), recipe="causvid", budget_bytes=GIB)
    desk = desks.open(model=EMBEDDED_MODEL if is_demo else None)
    desk.app.settings.optimise = stored
    again = desks.open(model=EMBEDDED_MODEL if is_demo else None, with_chosen_model=not is_demo)
    assert again.app.prompt.optimise.values == OptimiseValues()
    again.app.prompt.optimise.set_budget(2 * GIB)
    again.app.window.close()
    again.qtbot.waitUntil(lambda: not again.app.window.isVisible())
    assert again.app.settings.optimise == stored


def test_the_focus_stays_with_the_buttons_when_one_cannot_be_pressed_any_more(page: Desk) -> None:
    page.app.prompt.optimise.set_budget(8 * GIB)
    use, reset = page.child(QPushButton, "usePreset"), page.child(QPushButton, "resetOptimise")
    assert page.app.window.focusWidget() is use
    page.press(Qt.Key.Key_Space, widget=use)
    assert page.app.window.focusWidget() is reset
    page.press(Qt.Key.Key_Space, widget=reset)
    assert page.app.window.focusWidget() is use


def test_every_control_has_the_name_that_is_shown_beside_it(page: Desk) -> None:
    control(page, QComboBox, "Distilled model")
    assert all(area.focusPolicy() is Qt.FocusPolicy.NoFocus for area in page.app.window.panel.findChildren(QScrollArea))


BROKEN = (
    '"budget_bytes": "x"', '"budget_bytes": 1e300', '"budget_bytes": -1', '"recipe": 4', '"rounds_input": "no"',
    '"residents_of_preset": 1',
)  # fmt: skip
BROKEN_SAMPLING = (
    '"x": 1', '"resident_blocks": "a"', '"resident_blocks": true', '"chunk_tokens": 99999999999', '"step_cache": null',
    '"step_cache": NaN', '"compile_blocks": null', '"joint_guidance": []',
)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"solver": "unipc"}',
        *(f'{{"sampling": {{}}, "solver": "unipc", {each}}}' for each in BROKEN),
        *(f'{{"sampling": {{{each}}}, "solver": "unipc"}}' for each in BROKEN_SAMPLING),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_read_are_the_first_ones(text: str) -> None:
    assert optimise_from(text) == OptimiseValues()
    assert optimise_from(optimise_text(OptimiseValues())) == OptimiseValues()


def test_every_code_has_its_words() -> None:
    assert len({backend_name(backend) for backend in AttentionBackend}) == len(AttentionBackend)
    assert len({solver_name(solver) for solver in Solver}) == len(Solver)
    assert len({weights_name(form) for form in WeightForm}) == len(WeightForm)
    assert all(recipe_name(recipe) != recipe.name for recipe in distilled_recipes())
    states = [BackendState(AttentionBackend.SAGEATTN, False, reason, "8.0") for reason in Reason]
    assert len({unavailable_text(state) for state in states}) == len(Reason)
    assert not any("Not available here" in unavailable_text(state) for state in states)
    assert len({compile_text(reason) for reason in CompileReason}) == len(CompileReason)
    assert not any("Not available here" in compile_text(reason) for reason in CompileReason)
    assert "SageAttention, 8 bits" in unavailable_text(
        BackendState(AttentionBackend.SAGEATTN_3_FP8, False, Reason.NOT_OFFERED, AttentionBackend.SAGEATTN)
    )


def test_figures_of_sampling_are_told() -> None:
    figures = SamplingFigures(24, 40, 4096, 8192, 4 * GIB, GIB, 3.0, 4.23)
    assert sampling_text(figures) == (
        "24 of 40 blocks stay on the card; 4.0 GB wait in system memory. "
        "4,096 of 8,192 tokens go through a layer together. About 4.2 s a step."
    )
    whole = replace(figures, resident_blocks=40, chunk_tokens=8192, seconds=None)
    assert sampling_text(whole) == "None of the 40 blocks of the model is swapped."
    assert [residents_text(*of) for of in ((None, 40), (40, 40), (0, 40), (3, None))] == [
        "automatic", "all 40", "0 of 40", "3",
    ]  # fmt: skip


def test_nothing_is_said_not_to_fit_before_it_is_known(desk: Desk) -> None:
    assert fit_text(desk.app.prompt.outlook) == ""
