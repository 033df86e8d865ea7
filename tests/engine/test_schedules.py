"""Levels and times against the official code's and the peer's, and what is cut out of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, ErrorCode
from engine.generation import Solver
from engine.sampling.schedule import (
    UNIPC_FIRST_LEVEL,
    Schedule,
    dpmpp_schedule,
    expert_steps,
    levels,
    schedule_for,
    started_at,
    unipc_schedule,
)

LIGHTX2V = (1000.0, 750.0, 500.0, 250.0)
CAUSVID = (1000.0, 934.0, 862.0, 756.0, 603.0, 410.0, 250.0, 140.0, 74.0)
# Outputs of the official Wan scheduler for DPM++, rounded to six digits.
DPMPP_40_12 = (
    1.0, 0.997868, 0.995633, 0.993289, 0.990826, 0.988235, 0.985507, 0.98263, 0.979592, 0.976378, 0.972973, 0.969359,
    0.965517, 0.961424, 0.957055, 0.952381, 0.947368, 0.94198, 0.93617, 0.929889, 0.923077, 0.915663, 0.907563,
    0.898678, 0.888889, 0.878049, 0.865979, 0.852459, 0.837209, 0.819876, 0.8, 0.776978, 0.75, 0.717949, 0.679245,
    0.631579, 0.571429, 0.493151, 0.387097, 0.235294, 0.0,
)  # fmt: skip
DPMPP_40_12_TIMES = (
    1000, 997, 995, 993, 990, 988, 985, 982, 979, 976, 972, 969, 965, 961, 957, 952, 947, 941, 936, 929, 923, 915,
    907, 898, 888, 878, 865, 852, 837, 819, 800, 776, 750, 717, 679, 631, 571, 493, 387, 235,
)  # fmt: skip
SCHEDULES = st.builds(
    schedule_for, st.sampled_from(Solver), st.integers(1, 60), st.floats(0.5, 16), st.sampled_from([(), LIGHTX2V])
)


def test_official_levels_of_dpmpp() -> None:
    schedule = dpmpp_schedule(40, 12.0)
    assert schedule.sigmas == pytest.approx(DPMPP_40_12, abs=1e-6)
    assert schedule.timesteps == DPMPP_40_12_TIMES
    assert dpmpp_schedule(5, 5.0).timesteps == (1000, 952, 882, 769, 555)


@pytest.mark.parametrize("first", [1.0, UNIPC_FIRST_LEVEL])
@pytest.mark.parametrize("shift", [1.0, 2.5, 3.0, 5.0, 8.0, 12.0, 16.0])
def test_levels_are_the_official_codes_to_the_last_bit(first: float, shift: float) -> None:
    """In a quarter of these a level lies so close to a whole time that its last bit decides on the time."""
    for steps in range(1, 101):
        even = np.linspace(first, 0, steps + 1)[:steps]
        official = shift * even / (1 + (shift - 1) * even)
        assert levels(first, steps, shift) == (*official.tolist(), 0.0)


@pytest.mark.parametrize("solver", list(Solver))
def test_a_distilled_model_has_its_own_times(solver: Solver) -> None:
    schedule = schedule_for(solver, 20, 5.0, LIGHTX2V)
    assert schedule.sigmas == pytest.approx((1.0, 0.9375, 5 / 6, 0.625, 0.0), abs=1e-12)
    assert schedule.timesteps == pytest.approx((1000.0, 937.5, 2500 / 3, 625.0), abs=1e-9)
    causvid = schedule_for(solver, 20, 1.0, CAUSVID)
    assert causvid.timesteps == pytest.approx(CAUSVID, abs=1e-9)
    assert causvid.sigmas == pytest.approx((*(time / 1000 for time in CAUSVID), 0.0), abs=1e-12)


@pytest.mark.parametrize(
    ("schedule", "boundary", "steps"),
    [
        (unipc_schedule(40, 12.0), 0.875, 26),
        (unipc_schedule(40, 5.0), 0.9, 15),
        (dpmpp_schedule(40, 12.0), 0.875, 26),
        (schedule_for(Solver.EULER, 4, 5.0, LIGHTX2V), 0.875, 2),
        (schedule_for(Solver.EULER, 4, 5.0, LIGHTX2V), 0.9, 2),
        (schedule_for(Solver.EULER, 4, 5.0, LIGHTX2V), 0.9375, 2),
        (unipc_schedule(10, 3.0), 1.0, 0),
        (unipc_schedule(10, 3.0), 0.0, 10),
    ],
)
def test_the_first_transformer_takes_as_many_steps_as_officially(
    schedule: Schedule, boundary: float, steps: int
) -> None:
    assert expert_steps(schedule, boundary) == steps


def least_strength(schedule: Schedule, strength: float) -> float:
    """What is named as the least there is where `strength` is refused."""
    with pytest.raises(EngineError) as caught:
        started_at(schedule, strength)
    assert (caught.value.code, caught.value.details["name"]) == (ErrorCode.INVALID_SETTING, "strength")
    return float(str(caught.value.details["allowed"]).split(" - ")[0])


@given(SCHEDULES)
def test_the_least_strength_that_is_named_is_taken_and_little_above_the_truth(schedule: Schedule) -> None:
    least = least_strength(schedule, 0.0)
    assert schedule.sigmas[-2] <= least <= schedule.sigmas[-2] + 0.001
    assert started_at(schedule, least).steps == 1


def test_a_strength_below_the_last_level_is_not_silently_more() -> None:
    assert least_strength(dpmpp_schedule(40, 12.0), 0.2) == 0.236
    assert least_strength(schedule_for(Solver.EULER, 4, 1.0, LIGHTX2V), 0.249) == 0.25
    assert least_strength(dpmpp_schedule(1, 5.0), 0.7) == 1


@given(SCHEDULES, st.floats(0, 1))
def test_a_later_start_is_the_end_of_the_same_schedule(schedule: Schedule, strength: float) -> None:
    if strength < schedule.sigmas[-2]:
        least_strength(schedule, strength)
        return
    late = started_at(schedule, strength)
    assert 1 <= late.steps <= schedule.steps
    assert late.sigmas == schedule.sigmas[-late.steps - 1 :]
    assert late.timesteps == schedule.timesteps[-late.steps :]
    assert late.sigmas[0] <= strength
    skipped = schedule.sigmas[: -late.steps - 1]
    assert all(sigma > strength for sigma in skipped)
    assert started_at(schedule, 1.0) == schedule


@given(SCHEDULES, st.floats(0, 1), st.floats(0, 1))
def test_the_switch_of_transformers_stays_where_it_is_when_started_late(
    schedule: Schedule, strength: float, boundary: float
) -> None:
    late = started_at(schedule, max(strength, schedule.sigmas[-2]))
    second = schedule.steps - expert_steps(schedule, boundary)
    assert late.steps - expert_steps(late, boundary) == min(second, late.steps)


@given(SCHEDULES)
def test_levels_fall_to_nothing_and_times_follow_them(schedule: Schedule) -> None:
    assert all(above > below for above, below in zip(schedule.sigmas, schedule.sigmas[1:], strict=False))
    assert schedule.sigmas[-1] == 0
    assert len(schedule.sigmas) == schedule.steps + 1
    for sigma, time in zip(schedule.sigmas, schedule.timesteps, strict=False):
        assert math.floor(1000 * sigma) <= time <= 1000 * sigma
