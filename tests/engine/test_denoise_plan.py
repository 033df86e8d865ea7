"""The planner of sampling keeps to budgets, prefers speed inside them, and comes down in steps when memory runs out."""

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.denoise.cost import sampling_cost
from engine.denoise.plan import SMALLEST_CHUNK, SamplingPlan, figures, plan_sampling, smaller
from engine.errors import EngineError, ErrorCode
from engine.generation import AttentionBackend, SamplingSettings
from engine.models.rope import Grid
from engine.models.transformer import TransformerConfig
from engine.weights.card import WORK_BYTES, NetworkBytes

GIB = 2**30
BF16 = torch.bfloat16
WAN_1_3B = TransformerConfig()
WAN_14B = TransformerConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)
BYTES_1_3B = NetworkBytes(80 << 20, (93 << 20,) * 30, 0)
BYTES_14B = NetworkBytes(400 << 20, (670 << 20,) * 40, 0)
FP8_14B = NetworkBytes(400 << 20, (336 << 20,) * 40, WORK_BYTES)
P480, P720, STILL = (21, 60, 104), (21, 90, 160), (1, 60, 104)
AUTOMATIC = SamplingSettings()

MODELS = {"1.3B": (WAN_1_3B, BYTES_1_3B), "14B": (WAN_14B, BYTES_14B), "14B fp8": (WAN_14B, FP8_14B)}
budgets = st.one_of(st.none(), st.floats(0.3, 40).map(lambda gib: int(gib * GIB)))
stated = st.builds(
    SamplingSettings,
    attention=st.sampled_from(AttentionBackend),
    resident_blocks=st.one_of(st.none(), st.integers(0, 30)),
    chunk_tokens=st.one_of(st.none(), st.integers(1, 100_000)),
    step_cache=st.sampled_from([0.0, 0.1]),
    joint_guidance=st.booleans(),
)


def planned(
    name: str,
    size: Grid = P480,
    asked: SamplingSettings = AUTOMATIC,
    budget: int | None = None,
    host: int | None = None,
    *,
    one_memory: bool = False,
) -> SamplingPlan:
    config, network = MODELS[name]
    return plan_sampling(config, size, BF16, network, asked, budget, host, one_memory=one_memory)


def smallest_named(refused: EngineError) -> int:
    assert refused.code is ErrorCode.NO_PLAN_FITS
    return int(refused.details["smallest_bytes"])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from([P480, P720, STILL]), stated, budgets, budgets)
def test_every_plan_keeps_to_what_it_was_given(
    name: str, size: Grid, asked: SamplingSettings, budget: int | None, host: int | None
) -> None:
    try:
        made = planned(name, size, asked, budget, host)
    except EngineError:
        assert budget is not None or host is not None
        return
    assert budget is None or made.smallest_bytes <= made.predicted_peak_bytes <= budget
    assert host is None or made.host_bytes <= host
    assert asked.resident_blocks in (None, made.resident_blocks)
    assert asked.chunk_tokens is None or made.chunk_tokens == min(asked.chunk_tokens, made.tokens)
    cost = sampling_cost(made.sampling, made.resident_blocks, made.chunk_tokens)
    assert cost.peak_bytes == made.predicted_peak_bytes
    assert cost.flop / 1e12 == made.tflop


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from([P480, P720, STILL]), stated)
def test_the_smallest_budget_that_is_named_does_fit(name: str, size: Grid, asked: SamplingSettings) -> None:
    with pytest.raises(EngineError) as refused:
        planned(name, size, asked, 1000)
    smallest = smallest_named(refused.value)
    assert planned(name, size, asked, smallest).predicted_peak_bytes == smallest
    with pytest.raises(EngineError):
        planned(name, size, asked, smallest - 1)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.sampled_from([P480, P720, STILL]), stated, budgets, budgets)
def test_it_comes_down_until_nothing_is_left(
    name: str, size: Grid, asked: SamplingSettings, budget: int | None, host: int | None
) -> None:
    try:
        first = made = planned(name, size, asked, budget, host)
    except EngineError:
        return
    steps = 0
    while (following := smaller(made)) is not None:
        assert following.predicted_peak_bytes < made.predicted_peak_bytes
        assert following.resident_blocks <= made.resident_blocks
        assert following.chunk_tokens <= made.chunk_tokens
        assert host is None or following.host_bytes <= host
        made, steps = following, steps + 1
    assert steps <= 30
    assert made.predicted_peak_bytes == first.smallest_bytes


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [P480, P720])
def test_more_memory_never_makes_a_slower_plan(name: str, size: Grid) -> None:
    """Where it copies more it does so for larger pieces, and where its pieces are smaller, to copy less."""
    plans = []
    for gib in (1.2, 1.6, 2, 2.6, 3, 4, 4.5, 6, 8, 12, 16, 24, 40):
        try:
            plans.append(planned(name, size, budget=int(gib * GIB)))
        except EngineError:
            assert not plans
    assert len(plans) > 5
    for less, more in pairwise(plans):
        assert more.copied_bytes <= less.copied_bytes or more.chunk_tokens > less.chunk_tokens
        assert more.chunk_tokens >= less.chunk_tokens or more.copied_bytes < less.copied_bytes
    assert plans[-1].resident_blocks == plans[-1].blocks


def test_without_a_budget_everything_stays() -> None:
    for made in (planned("14B"), planned("1.3B", one_memory=True), planned("1.3B", host=64 * GIB, one_memory=True)):
        assert made.resident_blocks == made.blocks
        assert made.host_bytes == made.copied_bytes == 0
        assert made.chunk_tokens == 16384
    assert planned("14B", STILL).chunk_tokens == 1560


@pytest.mark.parametrize(("name", "size", "gib"), [("14B fp8", P720, 4.5), ("14B fp8", P480, 2.6), ("1.3B", P480, 1.2)])
def test_promised_limits(name: str, size: Grid, gib: float) -> None:
    assert planned(name, size, budget=int(gib * GIB)).predicted_peak_bytes <= gib * GIB
    assert planned(name, size).smallest_bytes <= gib * GIB


def test_one_memory_is_held_to_what_is_free() -> None:
    made = planned("1.3B", host=4 * GIB, one_memory=True)
    assert made.resident_blocks == 30
    assert made.predicted_peak_bytes <= 4 * GIB
    with pytest.raises(EngineError) as refused:
        planned("1.3B", host=2 * GIB, one_memory=True)
    smallest = smallest_named(refused.value)
    assert planned("1.3B", host=smallest, one_memory=True).predicted_peak_bytes == smallest


def test_one_memory_holds_swapped_blocks_too() -> None:
    asked = SamplingSettings(resident_blocks=2)
    made = planned("1.3B", asked=asked, one_memory=True)
    total = made.predicted_peak_bytes + made.host_bytes
    assert planned("1.3B", asked=asked, host=total, one_memory=True).resident_blocks == 2
    with pytest.raises(EngineError):
        planned("1.3B", asked=asked, host=made.predicted_peak_bytes, one_memory=True)


def test_host_memory_keeps_blocks_on_the_card() -> None:
    made = planned("14B fp8", budget=14 * GIB, host=5 * GIB)
    assert made.host_bytes <= 5 * GIB
    with pytest.raises(EngineError) as refused:
        planned("14B fp8", budget=6 * GIB, host=5 * GIB)
    assert planned("14B fp8", budget=smallest_named(refused.value), host=5 * GIB)


def test_smaller_pieces_come_before_fewer_blocks() -> None:
    made = planned("1.3B", budget=4 * GIB)
    before = made.resident_blocks
    while made.chunk_tokens > SMALLEST_CHUNK:
        following = smaller(made)
        assert following is not None
        assert following.resident_blocks == before
        made = following
    following = smaller(made)
    assert following is not None
    assert following.resident_blocks < before


@pytest.mark.parametrize(
    ("asked", "name", "allowed"),
    [
        (SamplingSettings(resident_blocks=-1), "resident_blocks", "0 - 30"),
        (SamplingSettings(resident_blocks=31), "resident_blocks", "0 - 30"),
        (SamplingSettings(chunk_tokens=0), "chunk_tokens", "1 or more"),
    ],
)
def test_settings_that_no_model_takes_are_refused(asked: SamplingSettings, name: str, allowed: str) -> None:
    with pytest.raises(EngineError) as refused:
        planned("1.3B", asked=asked)
    assert refused.value.code is ErrorCode.INVALID_SETTING
    assert (refused.value.details["name"], refused.value.details["allowed"]) == (name, allowed)


def test_guidance_decides_how_often_and_how_wide() -> None:
    config, network = MODELS["1.3B"]
    joint = SamplingSettings(joint_guidance=True)
    found = [
        plan_sampling(config, P480, BF16, network, asked, None, guided=guided).sampling
        for asked in (AUTOMATIC, joint)
        for guided in (False, True)
    ]
    assert [(made.batch, made.passes) for made in found] == [(1, 1), (1, 2), (1, 1), (2, 1)]


def test_figures() -> None:
    made = planned("1.3B", budget=2 * GIB)
    told = figures(made)
    assert told.seconds is None
    assert figures(made, 3.5).seconds == 3.5
    shared = dataclasses.asdict(told)
    del shared["seconds"]
    assert shared == {name: getattr(made, name) for name in shared}
