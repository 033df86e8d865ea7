"""Integrators from noise to latents: one pure function per step, whatever they remember is passed along.

UniPC (Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework") in the form that the official Wan code
runs: order 2, B(h) = expm1(h) ("bh2"), prediction of x0, corrector from the second step on, first order at the end.
DPM++ 2M (Lu et al. 2022, "DPM-Solver++", midpoint) is, in that form, its predictor alone. LCM (Luo et al. 2023,
"Latent Consistency Models") jumps to x0 and noises it again. With alpha = 1 - s and lambda = log(alpha) - log(s),
which is infinite at both ends; what follows from that is a limit that the formulas take exactly.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from engine.generation import Solver
from engine.sampling.guidance import seeded_noise
from engine.sampling.schedule import Schedule

ORDER = 2


@dataclass(frozen=True, slots=True)
class Past:
    """What a solver remembers of the steps behind it; empty before the first step.

    sample: the (corrected) x that the last predictor started from, of solvers that correct. x0s: the last two
    predictions of x0, newest last. order: the order of the last predictor, and of the corrector that follows it.
    """

    sample: Tensor | None = None
    x0s: tuple[Tensor, ...] = ()
    order: int = 0


Step = Callable[[Schedule, int, Tensor, Tensor, Past], tuple[Tensor, Past]]


def predicted_x0(schedule: Schedule, index: int, x: Tensor, velocity: Tensor) -> Tensor:
    """The clean latents that `velocity` at step `index` points to: x0 = x - s * v."""
    return x - schedule.sigmas[index] * velocity


def noised(x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """Clean latents at noise level `sigma`: (1 - s) * x0 + s * noise."""
    return (1 - sigma) * x0 + sigma * noise


def euler_step(schedule: Schedule, index: int, x: Tensor, velocity: Tensor, past: Past) -> tuple[Tensor, Past]:
    """x at the next level along a straight line: x + (s_next - s) * v."""
    return x + (schedule.sigmas[index + 1] - schedule.sigmas[index]) * velocity, past


def unipc_step(schedule: Schedule, index: int, x: Tensor, velocity: Tensor, past: Past) -> tuple[Tensor, Past]:
    """x at the next level. The prediction made at the uncorrected x corrects x before it is carried on."""
    x0 = predicted_x0(schedule, index, x, velocity)
    if past.sample is not None:
        x = _corrected(schedule, index, past, x0)
    x0s = (*past.x0s, x0)[-ORDER:]
    order = min(ORDER, schedule.steps - index, len(x0s))
    return _predicted(schedule, index, x, x0s, order), Past(x, x0s, order)


def dpmpp_step(schedule: Schedule, index: int, x: Tensor, velocity: Tensor, past: Past) -> tuple[Tensor, Past]:
    """x at the next level, by the last two predictions of x0; at the first and the last step by one."""
    x0s = (*past.x0s, predicted_x0(schedule, index, x, velocity))[-ORDER:]
    order = min(ORDER, schedule.steps - index, len(x0s))
    return _predicted(schedule, index, x, x0s, order), Past(x0s=x0s, order=order)


def lcm_step(
    schedule: Schedule, index: int, x: Tensor, velocity: Tensor, past: Past, *, seed: int
) -> tuple[Tensor, Past]:
    """The prediction of x0, noised to the next level by noise that `seed` and `index` alone decide on."""
    x0, sigma_next = predicted_x0(schedule, index, x, velocity), schedule.sigmas[index + 1]
    if sigma_next == 0:
        return x0, past
    return noised(x0, step_noise(tuple(x.shape), seed, index).to(x), sigma_next), past


def step_noise(shape: tuple[int, ...], seed: int, index: int) -> Tensor:
    """Normal float32 noise for one step; neighbouring seeds and steps have nothing in common."""
    mixed = np.random.SeedSequence((seed, index)).generate_state(1, np.uint32)
    return seeded_noise(shape, int(mixed[0]))


def _predicted(schedule: Schedule, index: int, x: Tensor, x0s: tuple[Tensor, ...], order: int) -> Tensor:
    """UniP: from x at level `index` to level `index` + 1; at second order rho is 1/2."""
    moved, scale, h = _first_order(schedule, index, x, x0s[-1])
    if order == 1:
        return moved
    ratio = (_lambda(schedule.sigmas[index - 1]) - _lambda(schedule.sigmas[index])) / h
    return moved - scale * 0.5 * (x0s[-2] - x0s[-1]) / ratio


def _corrected(schedule: Schedule, index: int, past: Past, x0: Tensor) -> Tensor:
    """UniC: x at level `index` again from the level before it, now knowing `x0` predicted there."""
    if past.sample is None:
        raise ValueError("nothing to correct before the first step")
    before = index - 1
    moved, scale, h = _first_order(schedule, before, past.sample, past.x0s[-1])
    change = x0 - past.x0s[-1]
    if past.order == 1:
        return moved - scale * 0.5 * change
    ratio = (_lambda(schedule.sigmas[before - 1]) - _lambda(schedule.sigmas[before])) / h
    rho_before, rho_here = _corrector_weights(ratio, -h)
    return moved - scale * (rho_before * (past.x0s[-2] - past.x0s[-1]) / ratio + rho_here * change)


def _first_order(schedule: Schedule, index: int, x: Tensor, x0: Tensor) -> tuple[Tensor, float, float]:
    """The exact step for a constant x0, with alpha_next * B(h) and h for the terms that follow."""
    sigma, sigma_next = schedule.sigmas[index], schedule.sigmas[index + 1]
    h = _lambda(sigma_next) - _lambda(sigma)
    scale = (1 - sigma_next) * math.expm1(-h)
    return sigma_next / sigma * x - scale * x0, scale, h


def _corrector_weights(ratio: float, hh: float) -> tuple[float, float]:
    """Solves [[1, 1], [ratio, 1]] rho = [b1, b2] with b_k = k! phi_(k+1)(hh) hh / B, B = expm1(hh)."""
    b = math.expm1(hh)
    phi = b / hh - 1
    b1 = phi / b
    b2 = 2 * (phi / hh - 0.5) / b
    rho_before = (b1 - b2) / (1 - ratio)
    return rho_before, b1 - rho_before


def _lambda(sigma: float) -> float:
    """Half the log signal-to-noise ratio; infinite where there is only one of the two."""
    if sigma in (0, 1):
        return math.inf if sigma == 0 else -math.inf
    return math.log(1 - sigma) - math.log(sigma)


def step_of(solver: Solver, seed: int | None = None) -> Step:
    """The step function of `solver`. LCM draws noise from `seed`, and raises ValueError without."""
    match solver:
        case Solver.UNIPC:
            return unipc_step
        case Solver.EULER:
            return euler_step
        case Solver.DPMPP_2M:
            return dpmpp_step
        case Solver.LCM:
            if seed is None:
                raise ValueError("LCM needs a seed for the noise of its steps")
            return partial(lcm_step, seed=seed)
