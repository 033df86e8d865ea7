"""DPM++ and LCM against the official numbers, textbook formulas and the peer library; every solver at both ends."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.generation import Solver
from engine.sampling.guidance import seeded_noise
from engine.sampling.schedule import Schedule, dpmpp_schedule, schedule_for, started_at
from engine.sampling.solvers import (
    Past,
    dpmpp_step,
    lcm_step,
    noised,
    predicted_x0,
    step_noise,
    step_of,
    unipc_step,
)
from tests.engine.test_sampling import curved_velocity

# Outputs of the official Wan 2.1 scheduler: x after each of 5 steps at shift 5 from [1, -0.5, 0.25], v = x/2 + t/1000.
TOY_DPMPP = (
    (0.928571, -0.535714, 0.196429),
    (0.829392, -0.583623, 0.122884),
    (0.688299, -0.645993, 0.021153),
    (0.475104, -0.721923, -0.123409),
    (0.034798, -0.829722, -0.397462),
)
TIMES = (1000.0, 750.0, 500.0, 250.0)


def walk(solver: Solver, schedule: Schedule, x: Tensor, start: int = 0, past: Past | None = None) -> Tensor:
    past = Past() if past is None else past
    for index in range(start, schedule.steps):
        velocity = curved_velocity(x, schedule.sigmas[index])
        x, past = step_of(solver, seed=5)(schedule, index, x, velocity, past)
    return x


def test_dpmpp_walks_like_the_official_solver() -> None:
    schedule, x, past = dpmpp_schedule(5, 5.0), torch.tensor([1.0, -0.5, 0.25]), Past()
    for index, expected in enumerate(TOY_DPMPP):
        x, past = dpmpp_step(schedule, index, x, 0.5 * x + schedule.timesteps[index] / 1000, past)
        assert x.tolist() == pytest.approx(expected, abs=2e-6)


def test_dpmpp_is_the_textbooks_from_the_second_level_on() -> None:
    """Lu et al. 2022, algorithm 2 with r = 1/2 in its own letters, where none of them is infinite."""
    schedule = started_at(dpmpp_schedule(30, 5.0), 0.99)
    ours = theirs = seeded_noise((4, 6), 3).double()
    past, data = Past(), []
    alpha = [1 - s for s in schedule.sigmas]
    for i, s in enumerate(schedule.sigmas[:-2]):
        lam, lam_next = (math.log(alpha[j] / schedule.sigmas[j]) for j in (i, i + 1))
        h = lam_next - lam
        data.append(theirs - s * curved_velocity(theirs, s))
        d = data[-1]
        if i > 0:
            r = (lam - math.log(alpha[i - 1] / schedule.sigmas[i - 1])) / h
            d = (1 + 1 / (2 * r)) * data[-1] - 1 / (2 * r) * data[-2]
        theirs = schedule.sigmas[i + 1] / s * theirs - alpha[i + 1] * (math.exp(-h) - 1) * d
        ours, past = dpmpp_step(schedule, i, ours, curved_velocity(ours, s), past)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


PEERS = {"UniPCMultistepScheduler": unipc_step, "DPMSolverMultistepScheduler": dpmpp_step}


@pytest.mark.parametrize("name", PEERS)
def test_the_peer_library_walks_alike_over_many_steps(name: str) -> None:
    diffusers, step = pytest.importorskip("diffusers"), PEERS[name]
    settings = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    peer = getattr(diffusers, name)(**settings, final_sigmas_type="zero")
    peer.set_timesteps(17)
    # The peer's own levels are used, since its spacing differs from the official one.
    schedule = Schedule(tuple(peer.sigmas.double().tolist()), tuple(peer.timesteps.double().tolist()))
    ours = theirs = seeded_noise((4, 6), 3)
    past = Past()
    for index, time in enumerate(peer.timesteps):
        ours, past = step(schedule, index, ours, curved_velocity(ours, schedule.sigmas[index]), past)
        velocity = curved_velocity(theirs, schedule.sigmas[index])
        theirs = peer.step(velocity, time, theirs, return_dict=False)[0]
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


def test_lcm_matches_the_peer_library() -> None:
    """The peer is handed the noise that the seed and the number of the step stand for."""
    diffusers = pytest.importorskip("diffusers")
    schedule = schedule_for(Solver.LCM, 4, 5.0, TIMES)
    peer = diffusers.FlowMatchLCMScheduler(shift=1.0)
    peer.set_timesteps(sigmas=list(schedule.sigmas[:-1]))
    ours = theirs = seeded_noise((4, 6), 3)
    for index, time in enumerate(peer.timesteps):
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence((11, index)).generate_state(1)[0]))
        velocity = curved_velocity(theirs, schedule.sigmas[index])
        theirs = peer.step(velocity, time, theirs, generator=generator, return_dict=False)[0]
        ours, _ = lcm_step(schedule, index, ours, curved_velocity(ours, schedule.sigmas[index]), Past(), seed=11)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_noise_of_a_step_depends_on_seed_and_step_alone() -> None:
    shape = (1, 8, 4, 16, 16)
    drawn = {(seed, index): step_noise(shape, seed, index) for seed in (6, 7, 2**63 - 1) for index in range(3)}
    torch.manual_seed(0)
    assert all(torch.equal(noise, step_noise(shape, *key)) for key, noise in drawn.items())
    noises = [*drawn.values(), *(seeded_noise(shape, seed) for seed in range(12))]
    flat = torch.stack([noise.flatten() for noise in noises])
    assert flat.std(dim=1).sub(1).abs().max() < 0.03
    together = torch.corrcoef(flat) - torch.eye(len(noises))
    assert together.abs().max() < 0.06  # of 8192 values, chance alone gives 0.05 at most


def test_lcm_needs_its_seed() -> None:
    with pytest.raises(ValueError, match="seed"):
        step_of(Solver.LCM)


@pytest.mark.parametrize("solver", list(Solver))
def test_a_walk_can_be_taken_up_at_any_step(solver: Solver) -> None:
    """With x and `Past` as they were, the rest is the same to the bit."""
    schedule, x, past = schedule_for(solver, 6, 5.0), seeded_noise((3, 3), 1), Past()
    whole = walk(solver, schedule, x)
    for index in range(schedule.steps):
        assert torch.equal(walk(solver, schedule, x, index, past), whole)
        velocity = curved_velocity(x, schedule.sigmas[index])
        x, past = step_of(solver, seed=5)(schedule, index, x, velocity, past)


@pytest.mark.parametrize("solver", list(Solver))
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_every_solver_starts_at_nothing_but_noise(solver: Solver, steps: int) -> None:
    """There lambda is minus infinity. The first step goes straight to x0 and back to the next level."""
    schedule = schedule_for(solver, steps, 5.0, TIMES[:steps])
    assert schedule.sigmas[0] == 1
    x = seeded_noise((3, 3), 1)
    velocity = curved_velocity(x, 1.0)
    first, _ = step_of(solver, seed=5)(schedule, 0, x, velocity, Past())
    if solver is not Solver.LCM:
        x0 = predicted_x0(schedule, 0, x, velocity)
        torch.testing.assert_close(first, noised(x0, x, schedule.sigmas[1]))
    assert walk(solver, schedule, x).isfinite().all()


@pytest.mark.parametrize("solver", [Solver.UNIPC, Solver.DPMPP_2M])
def test_starting_at_nothing_but_noise_is_the_limit_of_starting_near_it(solver: Solver) -> None:
    x = seeded_noise((5, 5), 4).double()
    at_noise = schedule_for(solver, 4, 5.0, TIMES)
    near = Schedule((1 - 1e-9, *at_noise.sigmas[1:]), at_noise.timesteps)
    errors = (walk(solver, at_noise, x) - walk(solver, near, x)).abs().max().item()
    farther = Schedule((1 - 1e-4, *at_noise.sigmas[1:]), at_noise.timesteps)
    assert errors < (walk(solver, at_noise, x) - walk(solver, farther, x)).abs().max().item()
    assert errors < 0.05  # it nears the limit as slowly as 1 / log(1 - s) falls


@pytest.mark.parametrize("solver", list(Solver))
def test_a_clip_noised_half_way_comes_back_where_the_velocity_is_right(solver: Solver) -> None:
    """v = noise - x0 leads back to x0 from any level."""
    clean, noise = seeded_noise((3, 3), 1), seeded_noise((3, 3), 2)
    schedule = started_at(schedule_for(solver, 12, 3.0), 0.6)
    x, past = noised(clean, noise, schedule.sigmas[0]), Past()
    step = step_of(solver, seed=5)
    velocity_at = partial(velocity_towards, clean)
    for index in range(schedule.steps):
        x, past = step(schedule, index, x, velocity_at(x, schedule.sigmas[index]), past)
    torch.testing.assert_close(x, clean, rtol=1e-5, atol=1e-5)


def velocity_towards(clean: Tensor, x: Tensor, sigma: float) -> Tensor:
    return (x - clean) / sigma
