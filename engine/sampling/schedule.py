"""Noise levels and times of a flow-matching run: pure numbers, float64, no tensors.

The model is trained on x_s = (1 - s) * x0 + s * noise and predicts v = noise - x0. A *shift* k > 1 moves the
levels towards noise, s' = k s / (1 + (k - 1) s), because larger pictures need more noise to lose their structure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from engine.errors import EngineError, ErrorCode
from engine.generation import Solver

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
    """The level that `sigma` is moved to, k s / (1 + (k - 1) s). Pure noise stays that, where rounding misses it."""
    return 1.0 if sigma == 1 else shift * sigma / (1 + (shift - 1) * sigma)


def levels(first: float, steps: int, shift: float) -> tuple[float, ...]:
    """`steps` shifted levels evenly from `first` towards 0, then the final 0.

    To the last bit as numpy's ``linspace`` rounds them: times that are cut to integers can hang on it.
    """
    even = (first + i * (-first / steps) for i in range(steps))
    return (*(shifted(sigma, shift) for sigma in even), 0.0)


def unipc_schedule(steps: int, shift: float) -> Schedule:
    """Levels and whole times as in the official ``wan/utils/fm_solvers_unipc.py``.

    It starts at 0.999 and cuts the times to integers; the released models are sampled that way.
    """
    return _of_whole_times(levels(UNIPC_FIRST_LEVEL, steps, shift))


def dpmpp_schedule(steps: int, shift: float) -> Schedule:
    """Levels from pure noise at 1 and whole times as in the official ``wan/utils/fm_solvers.py``."""
    return _of_whole_times(levels(1.0, steps, shift))


def _of_whole_times(sigmas: tuple[float, ...]) -> Schedule:
    return Schedule(sigmas, tuple(float(int(sigma * TRAINING_TIMES)) for sigma in sigmas[:-1]))


def euler_schedule(steps: int, shift: float) -> Schedule:
    """Levels from pure noise at 1; the time is exactly 1000 times the level."""
    return _of_exact_times(levels(1.0, steps, shift))


def distilled_schedule(times: Sequence[float], shift: float) -> Schedule:
    """One step for each of `times`, the levels that a model was distilled at times 1000, which are shifted here."""
    sigmas = tuple(shifted(time / TRAINING_TIMES, shift) for time in times)
    return _of_exact_times((*sigmas, 0.0))


def _of_exact_times(sigmas: tuple[float, ...]) -> Schedule:
    return Schedule(sigmas, tuple(sigma * TRAINING_TIMES for sigma in sigmas[:-1]))


def schedule_for(solver: Solver, steps: int, shift: float, times: Sequence[float] = ()) -> Schedule:
    """The schedule that `solver` integrates over: of `times` where there are any, else of `steps` even ones."""
    if times:
        return distilled_schedule(times, shift)
    match solver:
        case Solver.UNIPC:
            return unipc_schedule(steps, shift)
        case Solver.DPMPP_2M:
            return dpmpp_schedule(steps, shift)
        case Solver.EULER | Solver.LCM:
            return euler_schedule(steps, shift)


def started_at(schedule: Schedule, strength: float) -> Schedule:
    """The end of `schedule` from the first level that is not above `strength` on.

    What is sampled from there is a clip noised to `sigmas[0]` of the result. Strength 1 is all of it. Raises
    INVALID_SETTING with the least strength that these steps allow for one below their last level.
    """
    skipped = sum(sigma > strength for sigma in schedule.sigmas[:-1])
    if skipped == schedule.steps:
        last = schedule.sigmas[-2]
        least = next(k / 1000 for k in count(int(last * 1000)) if k / 1000 >= last)  # the first of three digits
        allowed = f"{least:g} - 1 with so few steps"
        raise EngineError(ErrorCode.INVALID_SETTING, name="strength", value=strength, allowed=allowed)
    return Schedule(schedule.sigmas[skipped:], schedule.timesteps[skipped:])


def expert_steps(schedule: Schedule, boundary: float) -> int:
    """How many steps the first of two transformers takes, as officially: those of times not below 1000 * `boundary`."""
    return sum(time >= boundary * TRAINING_TIMES for time in schedule.timesteps)
