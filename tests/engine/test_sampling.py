"""Schedules and solvers against numbers from the official code, and against the exact solution."""

import math

import pytest
import torch
from torch import Tensor

from engine.generation import Solver
from engine.sampling.guidance import seeded_noise
from engine.sampling.schedule import euler_schedule, schedule_for, unipc_schedule
from engine.sampling.solvers import Past, euler_step, predicted_x0, step_of, unipc_step

# Outputs of the official Wan 2.1 schedulers, float32, rounded to six digits.
UNIPC_20_8 = (
    0.999875, 0.993334, 0.986166, 0.978276, 0.96955, 0.959846, 0.948992, 0.936768, 0.922899, 0.907029, 0.888691,
    0.867261, 0.841883, 0.811359, 0.773944, 0.727008, 0.666389, 0.58508, 0.470311, 0.296077, 0.0,
)  # fmt: skip
UNIPC_20_8_TIMES = (
    999, 993, 986, 978, 969, 959, 948, 936, 922, 907, 888, 867, 841, 811, 773, 727, 666, 585, 470, 296,
)  # fmt: skip
UNIPC_50_5_TIMES = (
    999, 995, 991, 987, 982, 978, 973, 968, 963, 957, 952, 946, 940, 934, 927, 920, 913, 906, 898, 890, 882, 873,
    863, 854, 843, 833, 821, 809, 796, 783, 768, 753, 737, 720, 701, 681, 660, 636, 611, 584, 555, 522, 487, 448,
    405, 356, 302, 241, 172, 92,
)  # fmt: skip
UNIPC_40_12_TIMES = (
    999, 997, 995, 993, 990, 988, 985, 982, 979, 976, 972, 969, 965, 961, 956, 952, 947, 941, 936, 929, 922, 915,
    907, 898, 888, 877, 865, 852, 837, 819, 799, 776, 749, 717, 678, 631, 571, 492, 386, 235,
)  # fmt: skip
TOY_UNIPC = (
    (0.928579, -0.535687, 0.196446),
    (0.831604, -0.581854, 0.124875),
    (0.693797, -0.641629, 0.026084),
    (0.48407, -0.714754, -0.115342),
    (0.041519, -0.824484, -0.391483),
)


def test_official_levels_of_20_steps() -> None:
    schedule = unipc_schedule(20, 8.0)
    assert schedule.sigmas == pytest.approx(UNIPC_20_8, abs=1e-6)
    assert schedule.timesteps == UNIPC_20_8_TIMES


@pytest.mark.parametrize(("steps", "shift", "times"), [(50, 5.0, UNIPC_50_5_TIMES), (40, 12.0, UNIPC_40_12_TIMES)])
def test_official_times(steps: int, shift: float, times: tuple[int, ...]) -> None:
    assert unipc_schedule(steps, shift).timesteps == times


def test_euler_levels_start_at_pure_noise() -> None:
    schedule = euler_schedule(5, 5.0)
    assert schedule.sigmas == pytest.approx((1.0, 0.952381, 0.882353, 0.769231, 0.555556, 0.0), abs=1e-6)
    assert schedule.timesteps == pytest.approx([1000 * sigma for sigma in schedule.sigmas[:-1]])


def test_times_are_cut_from_levels_that_went_through_float32() -> None:
    """The official code's first level is 0.999 in float32; without a shift, exact 0.999 is cut one lower at places."""
    assert 888.0 in unipc_schedule(9, 1.0).timesteps
    assert 887.0 not in unipc_schedule(9, 1.0).timesteps


def test_unipc_walks_like_the_official_solver() -> None:
    schedule, x, past = unipc_schedule(5, 5.0), torch.tensor([1.0, -0.5, 0.25]), Past()
    for index, expected in enumerate(TOY_UNIPC):
        x, past = unipc_step(schedule, index, x, 0.5 * x + schedule.timesteps[index] / 1000, past)
        assert x.tolist() == pytest.approx(expected, abs=2e-6)


def curved_velocity(x: Tensor, sigma: float) -> Tensor:
    return torch.sin(2 * x) + 0.5 * x * sigma


def exact_velocity(x: Tensor, sigma: float, scale: float) -> Tensor:
    """The true velocity when clean data is N(0, scale^2): E[noise - x0 | x]."""
    variance = (1 - sigma) ** 2 * scale**2 + sigma**2
    return x * (sigma - (1 - sigma) * scale**2) / variance


@pytest.mark.parametrize("solver", [solver for solver in Solver if solver is not Solver.LCM])
def test_solvers_converge_to_the_exact_flow(solver: Solver) -> None:
    """For Gaussian data the flow maps noise to `scale` times itself; more steps come closer, most at second order."""
    scale, noise = 0.5, torch.tensor([1.0, -2.0], dtype=torch.float64)
    errors = []
    for steps in (10, 40):
        schedule, x, past = schedule_for(solver, steps, 2.0), noise, Past()
        start = schedule.sigmas[0]
        x = noise * math.sqrt((1 - start) ** 2 * scale**2 + start**2)
        for index in range(steps):
            velocity = exact_velocity(x, schedule.sigmas[index], scale)
            x, past = step_of(solver)(schedule, index, x, velocity, past)
        errors.append((x - scale * noise).abs().max().item())
    assert errors[1] < errors[0] / (3 if solver is Solver.EULER else 6)
    assert errors[1] < {Solver.EULER: 0.06, Solver.DPMPP_2M: 0.01, Solver.UNIPC: 0.006}[solver]


@pytest.mark.parametrize("solver", list(Solver))
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_last_step_lands_on_the_prediction(solver: Solver, steps: int) -> None:
    schedule, x, past = schedule_for(solver, steps, 5.0), seeded_noise((3, 3), 1), Past()
    for index in range(steps):
        velocity = curved_velocity(x, 1.0)
        expected = predicted_x0(schedule, index, x, velocity)
        x, past = step_of(solver, seed=2)(schedule, index, x, velocity, past)
    torch.testing.assert_close(x, expected)


def test_euler_is_one_straight_line_for_a_constant_velocity() -> None:
    schedule, x = euler_schedule(7, 3.0), torch.ones(2)
    for index in range(7):
        x, _ = euler_step(schedule, index, x, torch.tensor([2.0, -1.0]), Past())
    torch.testing.assert_close(x, torch.tensor([-1.0, 2.0]))


def test_noise_depends_on_the_seed_alone() -> None:
    a = seeded_noise((1, 4, 2, 3, 3), 7)
    torch.manual_seed(0)
    assert torch.equal(a, seeded_noise((1, 4, 2, 3, 3), 7))
    assert not torch.equal(a, seeded_noise((1, 4, 2, 3, 3), 8))
    assert a.dtype == torch.float32
    assert seeded_noise((100_000,), 2**63 - 1).std().item() == pytest.approx(1.0, abs=0.02)
