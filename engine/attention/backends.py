"""The registry of attention back ends: what each is, whether it can be used here, and the one that was asked for.

A back end that cannot be used is refused with the reason and never replaced by another. The names of SageAttention 3
are those that programs around ComfyUI use. Its package has one quantisation, NVFP4, with two ways to take the mean
off the queries; they stand for `sageattn_3` (the package's default) and `sageattn_3_fp4` (less memory, as the Wan
wrapper there calls it). In eight bits it is offered by no package: the paper's eight bits are for training, and the
eight-bit kernels there are, are those of `sageattn`. Engine thread.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from engine.attention.attend import Attend, sdpa
from engine.attention.availability import Reason
from engine.attention.kernels import flash_attn, sageattn, sageattn_3
from engine.attention.packages import FLASH_ATTN, SAGE, SAGE_3, Package, Refusal, refusal
from engine.commands import BackendState
from engine.errors import EngineError, ErrorCode
from engine.generation import AttentionBackend

WAN_HEAD_DIM = 128


@dataclass(frozen=True, slots=True)
class Backend:
    """One back end. package: None for torch's own. load: imports the package and gives its `Attend`.

    relative_error: the root mean square of what it adds to a result over that of the result, at most, against `sdpa`
    in the same dtype, of attention in a model (of noise it is more, as its result is nearly nothing).
    """

    load: Callable[[], Attend]
    relative_error: float
    package: Package | None = None


BACKENDS = {
    AttentionBackend.SDPA: Backend(lambda: sdpa, 0.0),
    AttentionBackend.FLASH_ATTN: Backend(flash_attn, 0.005, FLASH_ATTN),
    AttentionBackend.SAGEATTN: Backend(sageattn, 0.02, SAGE),
    AttentionBackend.SAGEATTN_3: Backend(partial(sageattn_3, mean_of_blocks=True), 0.08, SAGE_3),
    AttentionBackend.SAGEATTN_3_FP4: Backend(partial(sageattn_3, mean_of_blocks=False), 0.08, SAGE_3),
}
NEAREST_OFFERED = {AttentionBackend.SAGEATTN_3_FP8: AttentionBackend.SAGEATTN}


def attend_of(
    backend: AttentionBackend, device: torch.device, dtype: torch.dtype, head_dim: int = WAN_HEAD_DIM
) -> Attend:
    """The attention that `backend` computes on `device` for values of `dtype`.

    Raises INVALID_SETTING where it cannot be used, with the reason (a code of `Reason`) and its detail.
    """
    reason = _reason(backend, device, dtype, head_dim)
    if reason is None:
        try:
            return BACKENDS[backend].load()
        except (ImportError, OSError, AttributeError) as error:  # of binaries that were built for another torch
            reason = Reason.PACKAGE_BROKEN, f"{type(error).__name__}: {error}"
    usable = [state.backend for state in backend_states(device, dtype, head_dim) if state.is_available]
    allowed = ", ".join(each for each in usable if each is not backend)
    code, detail = reason
    raise EngineError(
        ErrorCode.INVALID_SETTING, name="attention", value=backend, allowed=allowed, reason=code, detail=detail
    )


def backend_states(device: torch.device, dtype: torch.dtype, head_dim: int = WAN_HEAD_DIM) -> tuple[BackendState, ...]:
    """Whether each back end can be used on `device` for values of `dtype`, and why not. Nothing is imported."""
    reasons = {backend: _reason(backend, device, dtype, head_dim) for backend in AttentionBackend}
    return tuple(
        BackendState(backend, is_available=True) if reason is None else BackendState(backend, False, *reason)
        for backend, reason in reasons.items()
    )


def _reason(backend: AttentionBackend, device: torch.device, dtype: torch.dtype, head_dim: int) -> Refusal | None:
    if backend in NEAREST_OFFERED:
        return Reason.NOT_OFFERED, NEAREST_OFFERED[backend]
    package = BACKENDS[backend].package
    return None if package is None else refusal(package, device, dtype, head_dim)
