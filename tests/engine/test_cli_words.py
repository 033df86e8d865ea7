"""Numbers people type and sentences people read."""

import argparse
import io
import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli_events import ProgressLine, describe_misfit, event_json
from engine.cli_words import (
    PRODUCTS,
    REASONS,
    REFUSALS,
    SENTENCES,
    parse_bytes,
    parse_size,
    said_bytes,
    said_refusal,
    said_time,
    sentence,
)
from engine.errors import ErrorCode
from engine.events import (
    DecodePlanned,
    JobFailed,
    JobFinished,
    JobStarted,
    LatentsSaved,
    Stage,
    StageFinished,
    StageOutlook,
    StageProgressed,
    StageStarted,
)
from engine.models.scaled_products import Product, Why
from tests.engine.event_samples import EVENTS

DETAILS: dict[ErrorCode, dict[str, str | int | float]] = {
    ErrorCode.INVALID_SIZE: {
        "width": 250,
        "height": 256,
        "multiple": 32,
        "nearest": "256x256",
        "smallest": 32,
        "largest": 8192,
    },
    ErrorCode.INVALID_FRAMES: {"frames": 31, "nearest": "29, 33"},
    ErrorCode.INVALID_SETTING: {"name": "steps", "value": 0, "allowed": "1 - 1000"},
    ErrorCode.MODEL_NOT_FOUND: {"folder": "/m", "missing": "config.json"},
    ErrorCode.MODEL_INVALID: {"file": "/m/vae", "reason": "cut short"},
    ErrorCode.LATENTS_INVALID: {"file": "/l", "reason": "cut short"},
    ErrorCode.PICTURE_INVALID: {"file": "/p.png", "reason": "cut short"},
    ErrorCode.NO_PLAN_FITS: {"budget_bytes": 2**29, "smallest_bytes": 3 * 2**29},
    ErrorCode.OUT_OF_MEMORY: {"stage": "decode"},
    ErrorCode.OUTPUT_NOT_WRITABLE: {"path": "/o", "reason": "No space left"},
    ErrorCode.VIDEO_WRITER_FAILED: {"last_lines": "bad {codec}"},
    ErrorCode.UNEXPECTED: {"reason": "KeyError: 'x'"},
}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_failure_has_a_sentence_with_all_its_details(code: ErrorCode) -> None:
    said = sentence(code, DETAILS[code])
    assert "{" not in said.replace("{codec}", "")
    for name, value in DETAILS[code].items():
        assert (said_bytes(int(value)) if name.endswith("_bytes") else str(value)) in said
    assert set(SENTENCES) == set(ErrorCode)


def test_every_way_to_compute_a_product_and_every_reason_has_words() -> None:
    assert (set(PRODUCTS), set(REASONS)) == (set(Product), set(Why))


@pytest.mark.parametrize(
    ("text", "count"),
    [("0.5GiB", 2**29), ("800 MB", 800 * 10**6), ("1000000", 10**6), ("2gib", 2**31), (".5KiB", 512), ("3.b", 3)],
)
def test_bytes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1.2.3GB", "1 TB", "1 GiB extra", "nan"])
def test_other_bytes_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a number of bytes"):
        parse_bytes(text)


def test_sizes_are_read() -> None:
    assert parse_size("832x480") == parse_size(" 832X480 ") == parse_size("832×480") == (832, 480)
    for text in ("832", "832x", "axb", "-8x8", "8x8x8"):
        with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
            parse_size(text)


def test_numbers_are_said_for_people() -> None:
    assert (said_time(7.6), said_time(125), said_time(59.7)) == ("8 s", "2:05", "1:00")
    assert (said_bytes(2**29), said_bytes(3 * 2**29)) == ("512 MiB", "1.50 GiB")


@given(st.integers(2**20, 2**41), st.integers(1, 2**36))
def test_the_smallest_budget_that_is_named_is_enough_and_never_the_one_that_is_not(budget: int, lacking: int) -> None:
    smallest = budget + lacking
    refusal = sentence(ErrorCode.NO_PLAN_FITS, {"budget_bytes": budget, "smallest_bytes": smallest})
    misfit = describe_misfit(StageOutlook(Stage.SAMPLE, smallest, smallest, budget))
    for text in (refusal, misfit):
        said = re.findall(r"[0-9.]+ [MG]iB", text)
        assert len(set(said)) == 2
        low, enough = map(parse_bytes, said)
        assert low <= budget
        assert smallest <= enough <= smallest + max(2**20, 2**30 // 100)


def test_numbers_are_rounded_as_they_are_needed() -> None:
    assert [said_bytes(2**25 + 1, each) for each in (math.floor, round, math.ceil)] == ["32 MiB", "32 MiB", "33 MiB"]
    assert [said_bytes(2**32 + 1, each) for each in (math.floor, round, math.ceil)] == [
        "4.00 GiB", "4.00 GiB", "4.01 GiB",
    ]  # fmt: skip


def test_names_keep_their_capitals() -> None:
    assert said_refusal({"reason": "not_nvidia"}) == " It needs an NVIDIA card."
    assert said_refusal({"reason": "no_compiler"}) == " There is no C++ compiler."
    for reason, words in REFUSALS.items():
        assert words.format(detail="SageAttn")[1:] in said_refusal({"reason": reason, "detail": "SageAttn"})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_is_one_line_of_json(event: JobStarted) -> None:
    line = event_json(event)
    assert "\n" not in line
    fields = json.loads(line)
    assert fields.pop("event") == type(event).__name__
    assert set(fields) == set(type(event).__slots__)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_time_left() -> None:
    seconds = iter([0.0, 10.0])
    terminal = Terminal()
    line = ProgressLine(terminal, clock=lambda: next(seconds))
    line.show(StageStarted(Stage.SAMPLE, 2**20))
    line.show(StageProgressed(Stage.SAMPLE, 5, 20))
    last = terminal.getvalue().rsplit("\r", 1)[1]
    assert "[######------------------] 5/20  30 s left" in last


def test_a_log_gets_whole_lines_only() -> None:
    log = io.StringIO()
    line = ProgressLine(log)
    for event in EVENTS:
        line.show(event)
    assert "\r" not in log.getvalue()
    assert "[" not in log.getvalue().replace("[x]", "")
    for words in ("256x256, 33 frames", "sampling", "/l/latents.safetensors", "/o.mp4", "No space left", "decode plan"):
        assert words in log.getvalue()


def test_samples_cover_what_a_job_says() -> None:
    kinds = {type(event) for event in EVENTS}
    assert {DecodePlanned, JobFailed, JobFinished, LatentsSaved, StageFinished} <= kinds
