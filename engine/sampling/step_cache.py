"""Passes of the network that a step takes over from the step before, where little is estimated to be lost by that.

EasyCache (Zhou et al. 2025, "Less is Enough: Training-Free Video Diffusion Acceleration via Runtime-Adaptive
Caching"): the rate k = |v_i - v_j| / |x_i - x_j| of the last two steps that were computed says how much the velocity
follows the latents, so k |x - x_before| / |v_i| estimates what it changes by from step to step, relative to itself.
These are added up until they reach a threshold; then the network is run again. Norms are means of absolute values.
The first pass of guidance decides for all of its step, so that what guidance compares is always equally old.

There, v - x is carried over; here v is, which is what does not change along a straight line from noise to picture. It
adds a quarter less error in the embedded model, for as many passes. Engine thread.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from engine.sampling.guidance import Velocity

FIRST_SHARE = 0.15  # of the steps, which decide on the layout and are all computed; so is the last one


@dataclass(frozen=True, slots=True)
class KeptPass:
    """What is known of one pass of guidance after a step. Tensors and numbers, to be stored as they are.

    x: the latents of the last step. computed_x, velocity: the latents and the result of the last step that was
    computed. rate: k, None after a single computed step. error: what has added up since.
    """

    x: Tensor
    computed_x: Tensor
    velocity: Tensor
    rate: float | None = None
    error: float = 0.0


class StepCache:
    """All passes of guidance of a job, each with a state of its own.

    A `threshold` of 0 is off: no pass is looked at and nothing is held. reused: passes taken over so far.
    """

    def __init__(self, threshold: float, steps: int, kept: Iterable[KeptPass] = ()) -> None:
        """`kept`: after the step before, as the property of that name gives it; none where another network begins."""
        self._threshold = threshold
        self._steps = steps
        self._kept = list(kept)
        self._is_reusing = False
        self.reused = 0

    @property
    def kept(self) -> tuple[KeptPass, ...]:
        """The state after the last step, to go on from."""
        return tuple(self._kept)

    def of_step(self, index: int, x: Tensor, velocity: Velocity) -> Velocity:
        """`velocity` at the latents `x` of step `index`; its n-th call in a step is the n-th pass of every step.

        `x` is kept as it is, so it must not be written to. What is returned is float32.
        """
        if self._threshold == 0:
            return velocity
        calls = itertools.count()
        return lambda text: self._of_pass(next(calls), index, x, velocity, text)

    def _of_pass(self, number: int, index: int, x: Tensor, velocity: Velocity, text: Tensor) -> Tensor:
        before = self._kept[number] if number < len(self._kept) else None
        reused = None if before is None else _reused(before, x)
        if number == 0:
            is_open = math.ceil(self._steps * FIRST_SHARE) <= index < self._steps - 1
            self._is_reusing = is_open and reused is not None and reused.error < self._threshold
        if self._is_reusing and reused is not None:
            self.reused += 1
            after = reused
        else:
            computed = velocity(text).float()
            after = KeptPass(x, x, computed, _rate(before, x, computed))
        self._kept[number : number + 1] = [after]
        return after.velocity


def _reused(before: KeptPass, x: Tensor) -> KeptPass | None:
    """The pass as it would be if nothing was computed at `x`; None where nobody can say what would be lost."""
    if before.rate is None or not before.velocity.any():
        return None
    error = before.rate * _norm(x - before.x) / _norm(before.velocity)
    return replace(before, x=x, error=before.error + error)


def _rate(before: KeptPass | None, x: Tensor, velocity: Tensor) -> float | None:
    """k between the last computed step and this one."""
    if before is None or not (moved := _norm(x - before.computed_x)):
        return None
    return _norm(velocity - before.velocity) / moved


def _norm(x: Tensor) -> float:
    return x.abs().mean().item()
