"""Bad sizes and counts are refused with valid ones that are really the nearest."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.sampling.validation import check_frames, check_settings, check_size

VALID = GenerateVideo("a red ball", Path("out.mp4"))


def refusal(width: int, height: int, multiple: int) -> EngineError | None:
    try:
        check_size(width, height, multiple)
    except EngineError as error:
        return error
    return None


@given(st.integers(-64, 2000), st.integers(-64, 2000), st.sampled_from([8, 16, 32]))
def test_a_refused_size_names_the_nearest_valid_one(width: int, height: int, multiple: int) -> None:
    error = refusal(width, height, multiple)
    assert (error is None) == (min(width, height) > 0 and width % multiple == height % multiple == 0)
    if error is None:
        return
    assert error.code is ErrorCode.INVALID_SIZE
    offered = [tuple(map(int, size.split("x"))) for size in str(error.details["nearest"]).split(", ")]
    sides = range(multiple, 2100, multiple)
    best_w, best_h = min(abs(side - width) for side in sides), min(abs(side - height) for side in sides)
    assert abs(offered[0][0] - width) + abs(offered[0][1] - height) == best_w + best_h
    assert all(refusal(w, h, multiple) is None for w, h in offered)


@given(st.integers(-10, 500))
def test_a_refused_frame_count_names_its_valid_neighbours(frames: int) -> None:
    if frames >= 1 and frames % 4 == 1:
        check_frames(frames, 4)
        return
    with pytest.raises(EngineError) as caught:
        check_frames(frames, 4)
    offered = [int(count) for count in str(caught.value.details["nearest"]).split(", ")]
    valid = range(1, 600, 4)
    below, above = [n for n in valid if n < frames], [n for n in valid if n > frames]
    assert offered == below[-1:] + above[:1]


def test_the_example_of_the_issue() -> None:
    error = refusal(250, 256, 32)
    assert error is not None
    assert error.details["nearest"] == "256x256, 224x256"
    with pytest.raises(EngineError, match="29, 33"):
        check_frames(31, 4)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("guidance", -1.0), ("guidance", float("nan")), ("guidance", 1e9), ("shift", 0.0), ("shift", 1e14),
     ("shift", float("nan")), ("seed", -1), ("seed", 2**63),
     ("fps", 0), ("fps", 1000)],
)  # fmt: skip
def test_a_number_out_of_range_is_named(name: str, value: float) -> None:
    check_settings(VALID)
    change: dict[str, Any] = {name: value}
    with pytest.raises(EngineError) as caught:
        check_settings(dataclasses.replace(VALID, **change))
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details["name"] == name
