"""How long a step of sampling takes on this device, roughly: by what it multiplies and copies in a moment's trial.

Lives on the engine's thread.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from engine.decode.room import room_on_host
from engine.denoise.plan import SamplingPlan
from engine.device import is_out_of_memory

ROUNDS = 3  # of which the fastest counts: the first one wakes the device up
SIDES = {"cuda": 4096, "cpu": 1024}  # of the matrices that are multiplied
COPIED_BYTES = 64 << 20
# Of what large products reach, a whole step does so much: attention, norms and small kernels are slower.
SHARE_OF_PRODUCTS = 0.6


@dataclass(frozen=True, slots=True)
class Speed:
    """What a device does in a second. copied_bytes: from host memory to it."""

    flop: float
    copied_bytes: float


def speed_of(device: torch.device, dtype: torch.dtype) -> Speed | None:
    """What `device` does with products of `dtype`; None where there is no memory to try."""
    try:
        return _tried(device, dtype)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return None


@cache
def _tried(device: torch.device, dtype: torch.dtype) -> Speed:
    """Takes a tenth of a second or less, once."""
    side = SIDES.get(device.type, SIDES["cpu"])
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    flop = 2 * side**3 / _fastest(lambda: torch.mm(a, b), device)
    waiting = room_on_host((COPIED_BYTES,), torch.uint8, device)
    arriving = torch.empty(COPIED_BYTES, dtype=torch.uint8, device=device)
    copied = COPIED_BYTES / _fastest(lambda: arriving.copy_(waiting, non_blocking=True), device)
    return Speed(flop, copied)


def seconds_a_step(plan: SamplingPlan, speed: Speed) -> float:
    """A step cut as `plan` says: blocks are copied while others compute, so that the slower of the two counts."""
    computing = plan.tflop * 1e12 / (speed.flop * SHARE_OF_PRODUCTS)
    return max(computing, plan.copied_bytes / speed.copied_bytes)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    return min(_seconds(work, device) for _ in range(ROUNDS))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    _finish(device)
    began = time.perf_counter()
    work()
    _finish(device)
    return max(time.perf_counter() - began, 1e-9)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
