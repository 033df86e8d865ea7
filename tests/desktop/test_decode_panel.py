"""The decode panel and the gauge's line: settings to engine, plan to words; real widgets, threads and planner."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QComboBox, QLabel, QPushButton, QSpinBox, QToolButton

from desktop.decode_words import FRAMES_PER_LATENT
from desktop.plan_mailbox import PlanMailbox
from desktop.state.decode import DecodeChoice
from desktop.state.job import Phase
from desktop.state.model_use import ModelUse
from desktop.state.optimise import BUDGET_STEP_BYTES
from desktop.state.outlook import EngineStanding, OutlookState
from desktop.views.budget_handle import BudgetHandle
from desktop.worker import AllocatorSource, JobRunner
from engine.commands import EMBEDDED_MODEL, DecodeMode, DecodeSettings, GenerateVideo, PlanJob
from engine.decode.tiling import ReferenceTiling
from engine.errors import EngineError, ErrorCode
from engine.events import DecodeRecut
from tests.desktop.conftest import Desk, Desks
from tests.desktop.scripted_engine import MIB, SMALLEST, Script

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support")  # what pop-ups ask of a window system
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def planned(desk: Desk) -> Desk:
    """A window that shows the first plan and the gauge's first reading, with the panel open."""
    wait_for_plan(desk)
    desk.qtbot.waitUntil(lambda: desk.app.memory.sample is not None)
    desk.click(title(desk))
    return desk


def wait_for_plan(desk: Desk) -> None:
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.outlook is not None, timeout=60_000)


def title(desk: Desk) -> QToolButton:
    return desk.child(QToolButton, "decodeTitle")


def handle(desk: Desk) -> BudgetHandle:
    return desk.child(BudgetHandle)


def line_x(desk: Desk) -> int:
    """Where the line stands in the bar."""
    return handle(desk).geometry().center().x()


def said(desk: Desk, name: str) -> str:
    label = desk.child(QLabel, name)
    return label.text().replace("\u200b", "") if label.isVisibleTo(desk.app.window) else ""


def field(desk: Desk, name: str) -> QSpinBox:
    return next(each for each in desk.app.window.findChildren(QSpinBox) if each.accessibleName() == name)


def type_number(desk: Desk, name: str, number: int) -> None:
    box = field(desk, name)
    assert box.isVisibleTo(desk.app.window), name
    box.selectAll()
    desk.type(box, str(number))
    desk.press(Qt.Key.Key_Return, widget=box)


def choose(desk: Desk, choice: DecodeChoice) -> None:
    """As a person does who steps through the list with the keys."""
    combo = next(each for each in desk.app.window.findChildren(QComboBox) if each.accessibleName() == "How to decode")
    desk.press(Qt.Key.Key_Home, widget=combo)
    for _ in range(list(DecodeChoice).index(choice)):
        desk.press(Qt.Key.Key_Down, widget=combo)
    assert desk.app.prompt.decode.choice is choice


def drag_to(desk: Desk, x: int) -> None:
    """Drag the line to `x` in the bar, in steps as a hand does, and let go."""
    line = handle(desk)
    QTest.mousePress(line, LEFT, pos=line.rect().center())
    for part in (0.5, 1.0):
        goal = round(line_x(desk) + (x - line_x(desk)) * part)
        QTest.mouseMove(line, QPoint(goal - line.x(), 10))
    QTest.mouseRelease(line, LEFT, pos=line.rect().center())


def last_settings(desk: Desk) -> DecodeSettings:
    return desk.engine.plans[-1].command.decode


def test_the_panel_is_closed_and_the_settings_are_the_engines_own(desk: Desk) -> None:
    assert title(desk).text() == "Decoding: automatic"
    assert not desk.child(QLabel, "decodePlan").isVisible()
    wait_for_plan(desk)
    (question,) = desk.engine.plans
    asked = question.command
    assert (asked.model, asked.width, asked.height, asked.frames) == (desk.folder, 256, 256, 33)
    assert (asked.decode, asked.budget_bytes, asked.prompt) == (DecodeSettings(), None, "")
    desk.submit(steps=1)
    desk.wait_for(Phase.FINISHED)
    assert isinstance(desk.engine.commands[0], GenerateVideo)
    assert desk.engine.commands[0].decode == DecodeSettings()


def test_before_the_engine_is_there_the_panel_says_so(desks: Desks) -> None:
    def broken() -> tuple[JobRunner, AllocatorSource | None]:
        raise OSError("libtorch_cpu.so: cannot open")

    desk = desks.open(load=broken)
    desk.click(title(desk))
    assert "as soon as the engine is loaded" in said(desk, "decodePlan") or "without the engine" in said(
        desk, "decodePlan"
    )
    desk.qtbot.waitUntil(lambda: desk.app.prompt.outlook.standing is EngineStanding.BROKEN)
    assert said(desk, "decodePlan") == "There is no plan without the engine."
    desks.close_all()


def test_the_plan_is_told_in_words(planned: Desk) -> None:
    text = said(planned, "decodePlan")
    assert text == (
        "4 strips of 72 rows, exact, 600 MB. Untiled would take 600 MB. "
        "Reference tiles: 300 MB, 3 times the work, inexact."
    )
    assert "Strip by strip, 4 frames at a time" in planned.child(QLabel, "decodePlan").toolTip()


def test_every_method_reaches_the_engine_with_its_numbers_and_only_those(planned: Desk) -> None:
    choose(planned, DecodeChoice.STRIPS)
    type_number(planned, "Rows of a strip", 48)
    type_number(planned, "Frames at a time", 10)
    assert field(planned, "Frames at a time").value() == 8, "whole latent frames"
    strips = DecodeSettings(DecodeMode.STRIP_MAJOR, strip_rows=48, chunk_latents=8 // FRAMES_PER_LATENT)
    planned.qtbot.waitUntil(lambda: last_settings(planned) == strips)
    choose(planned, DecodeChoice.REFERENCE)
    type_number(planned, "Width of a tile", 160)
    type_number(planned, "Step down", 96)
    tiling = ReferenceTiling(tile_width=160, stride_height=96)
    planned.qtbot.waitUntil(lambda: last_settings(planned) == DecodeSettings(DecodeMode.REFERENCE, tiling=tiling))
    planned.qtbot.waitUntil(lambda: said(planned, "decodePlan").startswith("Tiles of 160 × 272, inexact, 300 MB"))
    choose(planned, DecodeChoice.WHOLE)
    planned.qtbot.waitUntil(lambda: last_settings(planned) == DecodeSettings(DecodeMode.WHOLE))
    choose(planned, DecodeChoice.STRIPS)
    assert field(planned, "Rows of a strip").value() == 48, "what was typed is still there"
    planned.submit(steps=1)
    planned.wait_for(Phase.FINISHED)
    command = planned.engine.commands[0]
    assert isinstance(command, GenerateVideo)
    assert command.decode == strips


def test_frame_by_frame_is_an_order_of_strips(planned: Desk) -> None:
    choose(planned, DecodeChoice.STRIPS)
    order = next(each for each in planned.app.window.findChildren(QComboBox) if each.accessibleName() == "Order")
    planned.press(Qt.Key.Key_Down, widget=order)
    assert planned.app.prompt.decode.settings().mode is DecodeMode.FRAME_MAJOR
    assert planned.app.prompt.decode.choice is DecodeChoice.STRIPS


def test_a_setting_that_is_refused_is_told_where_it_was_typed(planned: Desk) -> None:
    planned.type(planned.app.window.panel._prompt, "a red ball")
    generate = planned.child(QPushButton, "generate")
    assert generate.isEnabled()
    choose(planned, DecodeChoice.REFERENCE)
    type_number(planned, "Width of a tile", 203)
    planned.qtbot.waitUntil(lambda: "203 is not possible for “width of a tile”" in said(planned, "decodeProblem"))
    assert not generate.isEnabled()
    planned.app.jobs.generate()
    assert not planned.engine.commands, "nor by its keys"
    type_number(planned, "Width of a tile", 208)
    planned.qtbot.waitUntil(generate.isEnabled)
    assert said(planned, "decodeProblem") == ""


def test_the_line_is_dragged_with_the_pointer(planned: Desk) -> None:
    before = line_x(planned)
    drag_to(planned, before + 60)
    optimise = planned.app.prompt.optimise
    budget = optimise.values.budget_bytes
    assert budget is not None
    assert budget % BUDGET_STEP_BYTES == 0
    sample, bar = planned.app.memory.sample, planned.app.window.gauge._bar
    assert sample is not None
    per_pixel = sample.total_bytes / (bar.width() - 2)
    assert budget == pytest.approx(1024 * MIB + 60 * per_pixel, abs=2 * per_pixel + BUDGET_STEP_BYTES)
    assert line_x(planned) == pytest.approx(before + 60, abs=2)
    assert field(planned, "Memory budget").value() == budget // MIB
    planned.qtbot.waitUntil(lambda: planned.engine.plans[-1].command.budget_bytes == budget)


def test_the_line_does_not_leave_the_bar(planned: Desk) -> None:
    bar = planned.app.window.gauge._bar
    optimise, sample = planned.app.prompt.optimise, planned.app.memory.sample
    assert sample is not None
    drag_to(planned, bar.width() + 500)
    assert BUDGET_STEP_BYTES <= (optimise.values.budget_bytes or 0) <= sample.total_bytes
    drag_to(planned, -500)
    assert optimise.values.budget_bytes == BUDGET_STEP_BYTES


def test_a_click_alone_changes_nothing_and_a_double_click_leaves_it_to_the_engine(planned: Desk) -> None:
    optimise, line = planned.app.prompt.optimise, handle(planned)
    planned.click(line)
    assert optimise.values.budget_bytes is None
    optimise.set_budget(512 * MIB)
    QTest.mouseDClick(line, LEFT, pos=line.rect().center())
    assert optimise.values.budget_bytes is None


def test_the_line_is_moved_with_the_keys(planned: Desk) -> None:
    optimise, line = planned.app.prompt.optimise, handle(planned)
    assert line.focusPolicy() & Qt.FocusPolicy.TabFocus
    assert "1.0 GB, automatic" in line.accessibleDescription()
    for key, step in ((Qt.Key.Key_Left, -1), (Qt.Key.Key_Right, 1), (Qt.Key.Key_PageDown, -16), (Qt.Key.Key_Up, 1)):
        before = optimise.values.budget_bytes or planned.app.prompt.outlook.budget_bytes or 0
        planned.press(key, widget=line)
        assert optimise.values.budget_bytes == before + step * BUDGET_STEP_BYTES
    assert "automatic" not in line.accessibleDescription()
    for key in (Qt.Key.Key_Home, Qt.Key.Key_Delete):
        optimise.set_budget(512 * MIB)
        planned.press(key, widget=line)
        assert optimise.values.budget_bytes is None


def test_a_budget_that_is_too_small_is_told_in_words_and_colour(planned: Desk) -> None:
    planned.app.prompt.optimise.set_budget(SMALLEST - 16 * MIB)
    gauge = planned.app.window.gauge
    planned.qtbot.waitUntil(lambda: planned.app.prompt.outlook.is_over_budget)
    assert gauge._budget._name.text() == "Budget too small"
    assert gauge._budget.figure == "112 MB at least"
    assert gauge._budget._name.property("role") == "problem"
    assert "too small" in handle(planned).accessibleDescription()
    assert "The smallest budget that works is 112 MB." in said(planned, "decodeProblem")
    planned.click(title(planned))
    alarms = [label.text() for label in planned.app.window.panel.decode_panel.findChildren(QLabel) if label.isVisible()]
    assert alarms == ["Budget too small"], "it is told while the panel is closed"
    planned.press(Qt.Key.Key_Right, widget=handle(planned))
    planned.qtbot.waitUntil(lambda: not planned.app.prompt.outlook.is_over_budget)
    assert gauge._budget.figure == "112 MB"
    assert gauge._budget._name.property("role") == "small"


def test_only_the_last_of_many_requests_is_planned(desks: Desks) -> None:
    desk = desks.open(Script(plan_seconds=0.1))
    wait_for_plan(desk)
    prompt = desk.app.prompt
    for step in range(1, 41):
        prompt.optimise.set_budget(step * 128 * MIB)
        desk.qtbot.wait(10)
    asked = len(desk.engine.plans)
    last = 40 * 128 * MIB
    desk.qtbot.waitUntil(lambda: prompt.outlook.budget_bytes == last)
    assert desk.engine.plans[-1].command.budget_bytes == last
    assert asked > 3, "while it is dragged"
    assert len(desk.engine.plans) - asked <= 2, "the one that was being made, and the last"
    desks.close_all()


def test_another_size_is_planned_once_it_is_typed(planned: Desk) -> None:
    prompt = planned.app.prompt
    for frames in (37, 41, 45):
        prompt.change(replace(prompt.values, frames=frames))
        planned.qtbot.wait(20)
    planned.qtbot.waitUntil(lambda: planned.engine.plans[-1].command.frames == 45)
    assert [request.command.frames for request in planned.engine.plans] == [33, 45]
    prompt.change(replace(prompt.values, width=201))
    planned.qtbot.waitUntil(lambda: "when the settings above are possible" in said(planned, "decodePlan"))
    assert planned.engine.plans[-1].command.width == 256


def test_while_a_job_runs_its_plan_is_shown_and_questions_wait(desks: Desks) -> None:
    desk = desks.open(Script(sample_seconds=0, strip_seconds=0, hold_at_row=64))
    wait_for_plan(desk)
    desk.click(title(desk))
    desk.submit(steps=1)
    desk.qtbot.waitUntil(lambda: said(desk, "decodePlan").startswith("8 strips of 32 rows, exact, 140 MB."))
    desk.qtbot.waitUntil(lambda: desk.app.job.budget_bytes is not None, timeout=20_000)
    assert not handle(desk).isEnabled()
    asked = len(desk.engine.plans)
    desk.app.prompt.optimise.set_budget(448 * MIB)
    desk.app.bridge.decode_recut.emit(DecodeRecut(16))
    desk.qtbot.wait(100)
    assert said(desk, "decodePlan").startswith("8 strips of 32 rows"), "still the job's"
    assert "strips of 16 rows" in said(desk, "decodeOutcome")
    assert len(desk.engine.plans) == asked
    desk.app.jobs.cancel()
    desk.wait_for(Phase.CANCELLED)
    desk.qtbot.waitUntil(lambda: said(desk, "decodePlan").startswith("8 strips of 32 rows, exact, 448 MB."))
    assert handle(desk).isEnabled()
    desks.close_all()


def test_what_was_measured_stands_beside_what_was_predicted(planned: Desk) -> None:
    assert said(planned, "decodeOutcome") == ""
    planned.submit(steps=1)
    planned.wait_for(Phase.FINISHED)
    assert said(planned, "decodeOutcome") == "Measured: 640 MB of 640 MB predicted, 6.0 s"


def test_restoring_the_defaults_reaches_decoding(planned: Desk) -> None:
    choose(planned, DecodeChoice.WHOLE)
    planned.app.prompt.optimise.set_budget(512 * MIB)
    planned.app.prompt.restore_defaults()
    assert planned.app.prompt.decode_settings() == DecodeSettings()
    assert title(planned).text() == "Decoding: automatic"


def test_the_real_planner_answers_on_the_engine_thread(desks: Desks, tmp_path: Path) -> None:
    """The embedded model: thinner strips in a smaller budget, and the smallest budget that the engine names works."""

    def load() -> tuple[JobRunner, AllocatorSource | None]:
        from engine.engine import Engine

        return Engine(tmp_path), None

    desk = desks.open(load=load)
    desk.app.prompt.use = ModelUse(EMBEDDED_MODEL)
    decode, outlook = desk.app.prompt.decode, desk.app.prompt.outlook
    wait_for_plan(desk)
    desk.click(title(desk))
    assert said(desk, "decodePlan").startswith("Whole pictures, up to 32 at a time, exact, ")

    def set_budget(size: int) -> None:
        decode.change(replace(decode.values, budget_bytes=size))

    set_budget(24 * MIB)
    desk.qtbot.waitUntil(lambda: " strips of " in said(desk, "decodePlan"))
    assert outlook.outlook is not None
    assert outlook.outlook.decode.plan.predicted_peak_bytes <= 24 * MIB
    set_budget(MIB)
    desk.qtbot.waitUntil(lambda: outlook.is_over_budget)
    smallest = outlook.smallest_bytes
    assert smallest is not None
    set_budget(smallest)
    desk.qtbot.waitUntil(lambda: outlook.outlook is not None and not outlook.is_over_budget)
    assert outlook.outlook.decode.plan.predicted_peak_bytes <= smallest
    choose(desk, DecodeChoice.REFERENCE)
    type_number(desk, "Width of a tile", 203)
    desk.qtbot.waitUntil(lambda: "203 is not possible" in said(desk, "decodeProblem"))
    desks.close_all()


def question(frames: int) -> PlanJob:
    return PlanJob(GenerateVideo("", Path(), frames=frames))


def test_answers_to_earlier_questions_are_left_alone() -> None:
    state = OutlookState()
    first, second = question(33), question(37)
    state.expect(first)
    state.expect(second)
    state.take_refusal(first, EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=1, smallest_bytes=2))
    assert state.refusal is None
    state.take_refusal(second, EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=1, smallest_bytes=2))
    assert (state.is_over_budget, state.is_invalid, state.smallest_bytes) == (True, False, 2)
    state.expect(PlanJob(replace(second.command, budget_bytes=3)))
    assert state.is_over_budget, "no flicker while the line is dragged"
    state.expect(first)
    assert state.refusal is None


def test_the_mailbox_keeps_the_latest() -> None:
    mailbox = PlanMailbox()
    first, second = question(33), question(37)
    mailbox.put(first)
    mailbox.put(second)
    assert mailbox.take() == second
    assert mailbox.take() is None
    mailbox.put(first)
    mailbox.clear()
    assert mailbox.take() is None
