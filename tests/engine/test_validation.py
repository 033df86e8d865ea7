"""Bad sizes and counts are refused with valid ones that are really the nearest."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands import GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.sampling.validation import LARGEST_SIDE, check_frames, check_settings, check_size, sampled_size

VALID = GenerateVideo("a red ball", Path("out.mp4"))


def refusal(width: int, height: int, multiple: int) -> EngineError | None:
    try:
        check_size(width, height, multiple)
    except EngineError as error:
        return error
    return None


@given(st.integers(-64, 8400), st.integers(-64, 8400), st.sampled_from([8, 16, 32]))
def test_a_refused_size_names_the_nearest_valid_one(width: int, height: int, multiple: int) -> None:
    error = refusal(width, height, multiple)
    is_between = min(width, height) > 0 and max(width, height) <= LARGEST_SIDE
    assert (error is None) == (is_between and width % multiple == height % multiple == 0)
    if error is None:
        return
    assert error.code is ErrorCode.INVALID_SIZE
    offered = [tuple(map(int, size.split("x"))) for size in str(error.details["nearest"]).split(", ")]
    sides = range(multiple, LARGEST_SIDE + 1, multiple)
    assert (error.details["smallest"], error.details["largest"]) == (sides[0], sides[-1])
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
     ("fps", 0), ("fps", 1000), ("guidance_low", -0.1), ("guidance_low", float("nan")), ("boundary", 1.1),
     ("boundary", float("nan")), ("times", (1001.0, 500.0)), ("times", (500.0, 500.0)), ("times", (250.0, 500.0)),
     ("times", (500.0, 0.0)), ("times", (500.0, -1.0)), ("times", (float("nan"),)), ("times", (float("inf"),))],
)  # fmt: skip
def test_a_number_out_of_range_is_named(name: str, value: float | tuple[float, ...]) -> None:
    check_settings(VALID)
    change: dict[str, Any] = {name: value}
    with pytest.raises(EngineError) as caught:
        check_settings(dataclasses.replace(VALID, **change))
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details["name"] == name


def sampled(width: int, height: int, multiple: int) -> tuple[int, int] | EngineError:
    try:
        return sampled_size(width, height, multiple)
    except EngineError as error:
        return error


@given(st.integers(-50, 9000), st.integers(-50, 9000), st.sampled_from([8, 16, 32]))
def test_a_size_is_rounded_up_or_refused_with_sizes_that_can_be(width: int, height: int, multiple: int) -> None:
    found = sampled(width, height, multiple)
    can_be = all(multiple <= side <= LARGEST_SIDE and side % 2 == 0 for side in (width, height))
    assert can_be == isinstance(found, tuple)
    if isinstance(found, tuple):
        assert all(0 <= more - side < multiple for more, side in zip(found, (width, height), strict=True))
        assert sampled(*found, multiple) == found
        return
    assert found.code is ErrorCode.INVALID_SIZE
    offered = [tuple(map(int, size.split("x"))) for size in str(found.details["nearest"]).split(", ")]
    assert all(isinstance(sampled(w, h, multiple), tuple) for w, h in offered)
    limits = range(*(int(found.details[name]) for name in ("smallest", "largest", "multiple")))
    assert can_be == all(side in limits or side == limits.stop for side in (width, height))
    assert all(isinstance(sampled(side, side, multiple), tuple) for side in (limits.start, limits.stop))
    assert all(abs(w - width) <= 1 or w in (multiple, LARGEST_SIDE) for w, _ in offered)


def test_full_hd_is_cut_out_of_what_is_sampled() -> None:
    assert sampled_size(1920, 1080, 16) == (1920, 1088)
    assert sampled_size(1280, 720, 32) == (1280, 736)
    with pytest.raises(EngineError, match="1918x1080, 1920x1080"):
        sampled_size(1919, 1080, 16)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("given", "strength", -0.1), ("given", "strength", 0.0), ("given", "strength", 1.1),
     ("given", "strength", float("inf")), ("given", "strength", float("nan")),
     ("sampling", "step_cache", -0.1), ("sampling", "step_cache", 2.0), ("sampling", "step_cache", float("nan")),
     ("sampling", "resident_blocks", -1), ("sampling", "chunk_tokens", 0)],
)  # fmt: skip
def test_a_number_out_of_range_in_a_part_is_named(part: str, name: str, value: float) -> None:
    wrong = dataclasses.replace(getattr(VALID, part), **{name: value})
    change: dict[str, Any] = {part: wrong}
    with pytest.raises(EngineError) as caught:
        check_settings(dataclasses.replace(VALID, **change))
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details["name"] == name


def test_what_models_are_distilled_at_and_ends_of_ranges_are_taken() -> None:
    check_settings(dataclasses.replace(VALID, times=(1000.0, 750.0, 500.0, 250.0), boundary=0.0, guidance_low=1.0))
    check_settings(dataclasses.replace(VALID, times=(1000.0,), boundary=1.0, guidance_low=0.0))
    given_whole = dataclasses.replace(VALID.given, strength=1.0)
    least = dataclasses.replace(VALID.sampling, resident_blocks=0, chunk_tokens=1, step_cache=1.0)
    check_settings(dataclasses.replace(VALID, given=given_whole, sampling=least))
