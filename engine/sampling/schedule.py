"""Noise levels and times of a flow-matching run: pure numbers, float64, no tensors.

The model is trained on x_s = (1 - s) * x0 + s * noise and predicts v = noise - x0. A *shift* k > 1 moves the
levels towards noise, s' = k s / (1 + (k - 1) s), because larger pictures need more noise to lose their structure.
"""

from dataclasses import dataclass

from engine.commands import Solver

TRAINING_TIMES = 1000
# 0.999 as float32 holds it: the official code takes it through a float32 tensor, and times are cut to integers.
UNIPC_FIRST_LEVEL = 0.9990000128746033


@dataclass(frozen=True, slots=True)
class Schedule:
    """`sigmas` has one level per step and a final 0; `timesteps` is what the network is told, 0..1000."""

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Number of network evaluations (each of them doubled by guidance)."""
        return len(self.timesteps)


def shifted(sigma: float, shift: float) -> float:
    """The level that `sigma` is moved to, k s / (1 + (k - 1) s)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def levels(first: float, steps: int, shift: float) -> tuple[float, ...]:
    """`steps` shifted levels evenly from `first` towards 0, then the final 0."""
    even = (first * (1 - i / steps) for i in range(steps))
    return (*(shifted(sigma, shift) for sigma in even), 0.0)


def unipc_schedule(steps: int, shift: float) -> Schedule:
    """Levels and whole times as in the official ``wan/utils/fm_solvers_unipc.py``.

    It starts at 0.999 and cuts the times to integers; the released models are sampled that way.
    """
    sigmas = levels(UNIPC_FIRST_LEVEL, steps, shift)
    return Schedule(sigmas, tuple(float(int(sigma * TRAINING_TIMES)) for sigma in sigmas[:-1]))


def euler_schedule(steps: int, shift: float) -> Schedule:
    """Levels from pure noise at 1; the time is exactly 1000 times the level."""
    sigmas = levels(1.0, steps, shift)
    return Schedule(sigmas, tuple(sigma * TRAINING_TIMES for sigma in sigmas[:-1]))


def schedule_for(solver: Solver, steps: int, shift: float) -> Schedule:
    """The schedule that `solver` integrates over."""
    return unipc_schedule(steps, shift) if solver is Solver.UNIPC else euler_schedule(steps, shift)
