"""Whether stored values are numbers: one NaN in a checkpoint makes a video of nothing but NaN. Engine thread."""

from pathlib import Path

import torch
from torch import Tensor

from engine.weights.header import invalid

PIECE_BYTES = 1 << 24  # what is worked on at once, so that a look takes no memory of a tensor's size
NO_SIGN = 0x7F
# The smallest byte, its sign taken off, that is no number.
FIRST_SPECIAL = {torch.float8_e4m3fn: 0x7F, torch.float8_e5m2: 0x7C}
# The one byte that is no number.
ONLY_SPECIAL = {torch.float8_e4m3fnuz: 0x80, torch.float8_e5m2fnuz: 0x80, torch.float8_e8m0fnu: 0xFF}


def check_finite(name: str, tensor: Tensor, file: Path) -> None:
    """Refuse a stored tensor with infinite values or NaN; whole numbers and blocks have neither.

    Raises MODEL_INVALID naming `file` and the tensor's `name` in it.
    """
    if tensor.numel() and not _is_finite(tensor):
        raise invalid(file, f"{name}: not all of its values are finite numbers")


def _is_finite(tensor: Tensor) -> bool:
    if tensor.dtype in FIRST_SPECIAL:
        first = FIRST_SPECIAL[tensor.dtype]
        return all(int((piece & NO_SIGN).max()) < first for piece in _bytes(tensor))
    if tensor.dtype in ONLY_SPECIAL:
        return not any(bool((piece == ONLY_SPECIAL[tensor.dtype]).any()) for piece in _bytes(tensor))
    if tensor.is_complex():
        return _is_finite(torch.view_as_real(tensor))
    if tensor.is_floating_point() and tensor.dtype is not torch.float4_e2m1fn_x2:
        return all(bool(torch.isfinite(extreme)) for extreme in torch.aminmax(tensor))  # a NaN is both
    return True


def _bytes(tensor: Tensor) -> tuple[Tensor, ...]:
    return tensor.view(torch.uint8).flatten().split(PIECE_BYTES)
