"""Every code has its sentence, whatever details come with it."""

import itertools
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from desktop.decode_words import choice_name, choice_title, measured_text, plan_details_text, plan_text, waiting_text
from desktop.failure_words import failure_text, setting_name
from desktop.product_words import products_text
from desktop.state.decode import DecodeChoice
from desktop.state.outlook import EngineStanding
from desktop.state.output_path import new_video_path
from desktop.theme import DARK, LIGHT, Colours, style_sheet
from desktop.words import byte_text, duration_text, no_card_text, stage_name, sufficient_byte_text
from engine import cli_words
from engine.commands import DecodeSettings
from engine.errors import ErrorCode
from engine.events import DecodeFigures, DecodePlanned, ProductsChosen, Stage
from engine.memory.vram import VramReason

GIB = 1 << 30
DETAILS: dict[ErrorCode, dict[str, str | int | float]] = {
    ErrorCode.INVALID_SIZE: {"width": 200, "height": 256, "multiple": 32, "nearest": "192x256, 224x256"},
    ErrorCode.INVALID_FRAMES: {"frames": 30, "nearest": "29, 33"},
    ErrorCode.INVALID_SETTING: {"name": "steps", "value": 0, "allowed": "1 - 1000"},
    ErrorCode.MODEL_NOT_FOUND: {"folder": "/models/wan", "missing": "config.json"},
    ErrorCode.MODEL_INVALID: {"file": "vae.safetensors", "reason": "truncated"},
    ErrorCode.LATENTS_INVALID: {"file": "latents.safetensors", "reason": "shape"},
    ErrorCode.PICTURE_INVALID: {"file": "first.png", "reason": "it is no file"},
    ErrorCode.NO_PLAN_FITS: {"budget_bytes": 1 << 29, "smallest_bytes": 3 << 28},
    ErrorCode.OUT_OF_MEMORY: {"stage": "decode"},
    ErrorCode.OUTPUT_NOT_WRITABLE: {"path": "/full/out.mp4", "reason": "No space left"},
    ErrorCode.VIDEO_WRITER_FAILED: {"last_lines": "Invalid argument"},
    ErrorCode.UNEXPECTED: {"reason": "KeyError"},
}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_failure_has_a_title_and_advice(code: ErrorCode) -> None:
    for details in (DETAILS[code], {}):
        text = failure_text(code, details, None)
        assert text.title
        assert text.advice
        assert not re.search(r"[{}]|None", text.title + text.advice)
        assert "safe on disk" in failure_text(code, details, Path("latents.safetensors")).advice


def test_a_long_path_loses_its_middle() -> None:
    path = "/home/somebody/" + "x" * 200 + "/Videos/out.mp4"
    title = failure_text(ErrorCode.OUTPUT_NOT_WRITABLE, {"path": path}, None).title
    assert "/home/somebody/" in title
    assert "…" in title
    assert "/Videos/out.mp4" in title
    assert len(title) < 120


def test_figures_are_in_the_sentences() -> None:
    text = failure_text(ErrorCode.NO_PLAN_FITS, DETAILS[ErrorCode.NO_PLAN_FITS], None)
    assert "512 MB" in text.title
    assert "768 MB" in text.advice


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "n/a"), (0, "0.0 MB"), (5 << 20, "5.0 MB"), (640 << 20, "640 MB"), (24 << 30, "24.0 GB")],
)
def test_bytes(size: int | None, text: str) -> None:
    assert byte_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (4200, "1 h 10 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.integers(1, 90 << 30))
def test_the_smallest_budget_is_enough_as_it_is_said(size: int) -> None:
    """Typed in as it is read, down to the digit, it must not be refused again."""
    number, unit = sufficient_byte_text(size).split()
    said = Decimal(number) * {"MB": 1 << 20, "GB": 1 << 30}[unit]
    assert size <= said <= size * Decimal("1.11") + (1 << 20)


def plan_of(order: str, strips: int, rows: int, ratio: float = 1.0) -> DecodePlanned:
    """A plan beside the figures that the design measured for 61 frames of 720p."""
    plan = DecodeFigures(order, rows, strips, 1, "host", GIB // 2, GIB, 2 * GIB, 477.0, ratio)
    whole = DecodeFigures("frame_major", 720, 1, 1, "card", int(10.8 * GIB), 0, 0, 477.0, 1.0)
    tiles = DecodeFigures("reference", 272, 5, 1, "card", GIB, 0, 0, 1459.0, 3.06)
    return DecodePlanned(plan, 8 * GIB, untiled=whole, reference=tiles)


def test_a_plan_is_told_beside_its_alternatives() -> None:
    strips = plan_of("strip_major", 45, 16)
    text = plan_text(strips, DecodeSettings())
    assert text == (
        "45 strips of 16 rows, exact, 512 MB. Untiled would take 10.8 GB. "
        "Reference tiles: 1.0 GB, 3.1 times the work, inexact."
    )
    assert "2.0 GB" in plan_details_text(strips)
    assert "Reference" not in plan_text(replace(strips, reference=None), DecodeSettings())
    tiled = plan_text(plan_of("reference", 5, 272, 3.06), DecodeSettings())
    assert tiled.startswith("Tiles of 272 × 272, inexact, 512 MB, 3.1 times the work.")
    assert "inexact" not in plan_text(plan_of("reference", 1, 256), DecodeSettings()).split(".")[0]
    assert "Untiled" not in plan_text(plan_of("frame_major", 1, 720), DecodeSettings())


def test_every_way_to_decode_has_its_words() -> None:
    for words in (choice_name, choice_title):
        assert len({words(choice) for choice in DecodeChoice}) == len(DecodeChoice)
    assert len({waiting_text(standing) for standing in EngineStanding}) == len(EngineStanding)
    assert measured_text(412 << 20, None, 3.14) == "Measured: 412 MB, 3.1 s"
    assert measured_text(412 << 20, 420 << 20, 130) == "Measured: 412 MB of 420 MB predicted, 2 min 10 s"
    assert {setting_name(name) for name in ("strip_rows", "steps")} == {"rows of a strip", "steps"}


def test_every_stage_and_reason_has_a_name() -> None:
    assert len({stage_name(stage) for stage in Stage}) == len(Stage)
    assert all(no_card_text(reason) for reason in VramReason)


# Runs of letters of one to four bytes, to be cut in any of them; st.text() hardly ever gets to a name's length.
RUNS = st.tuples(st.sampled_from("aé球𝔘 -_."), st.integers(1, 100)).map(lambda run: run[0] * run[1])
LONG_PROMPTS = st.lists(RUNS, max_size=6).map("".join)
LONGEST_FILE_NAME = 255 - len(".part") - len("-999")  # what the name grows by until the video is complete


@given(st.text(max_size=200) | LONG_PROMPTS, st.integers(0, 2**63 - 1))
def test_file_names_are_valid_on_every_system(prompt: str, seed: int) -> None:
    name = new_video_path(Path("no such folder"), prompt, seed).name
    assert not set(name) & set('<>:"/\\|?*')
    assert name.isprintable()
    assert name.endswith(f"-{seed}.mp4")
    assert len(name.encode()) <= LONGEST_FILE_NAME
    assert not name.startswith(("-", "."))


@pytest.mark.parametrize("letter", ["a", "é", "球", "𝔘"])
def test_names_are_cut_between_two_letters(letter: str) -> None:
    name = new_video_path(Path("no such folder"), letter * 300, 7).name
    words = name.removesuffix("-7.mp4")
    assert set(words) == {letter.lower()}
    assert 100 < len(words.encode()) <= 120 or len(words) == 60


@pytest.mark.parametrize("device", ["con", "PRN", "aux", "NUL", "com1", "LPT9", "COM¹", "conin$", "con.", "nul.txt"])
def test_names_are_no_devices_of_windows(device: str) -> None:
    """A device is what stands before the first full stop; a seed always follows the words."""
    name = new_video_path(Path("no such folder"), device, 7).name
    assert name.partition(".")[0].endswith("-7")
    assert not PureWindowsPath(name).is_reserved()


def test_file_names_never_overwrite(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        path = new_video_path(tmp_path, "A red ball!", 7)
        path.touch()
        names.add(path.name)
    assert names == {"a-red-ball-7.mp4", "a-red-ball-7-2.mp4", "a-red-ball-7-3.mp4"}


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [DARK, LIGHT], ids=["dark", "light"])
def test_text_is_readable_in_both_themes(colours: Colours) -> None:
    grounds = (colours.window, colours.panel, colours.field)
    assert all(contrast(text, ground) >= 4.5 for text in (colours.text, colours.text_dim) for ground in grounds)
    assert contrast(colours.text_dim, colours.stage) >= 4.5
    assert contrast(colours.on_accent, colours.accent) >= 4.5
    assert contrast(colours.danger, colours.danger_ground) >= 4.5
    assert contrast(colours.accent, colours.track) >= 3
    assert "$" not in style_sheet(colours)


def test_the_ways_to_compute_a_product_have_words_here_as_on_the_command_line() -> None:
    ways = list(itertools.product(cli_words.PRODUCTS, cli_words.REASONS))
    lines = products_text(ProductsChosen(product, reason, 300) for product, reason in ways).splitlines()
    assert len(set(lines)) == len(ways)
    assert all(line.startswith("300 ") and line.endswith(".") for line in lines)
