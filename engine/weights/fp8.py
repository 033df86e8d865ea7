"""Weights as eight-bit floats with a scale for all of them or for each output row. Pure.

R output rows, C columns of a weight; e4m3 has 3 bits of mantissa and reaches 448, e5m2 has 2 and reaches 57344.
"""

import torch
from torch import Tensor

E4M3_MAX = 448.0
SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of rows that are zero, and of such that nearly are


def dequantize_fp8(stored: Tensor, scale: Tensor | None) -> Tensor:
    """Values in float32 of `stored` (float8, [R, ...]); `scale` has one element or R, in whichever shape.

    Raises ValueError when it has another number of them.
    """
    values = stored.float()
    return values if scale is None else values.mul_(spread(scale, stored))


def spread(scale: Tensor, stored: Tensor) -> Tensor:
    """`scale` in float32, shaped so that it multiplies `stored` [R, ...]: [] for one element, [R, 1, ...] for R."""
    if scale.numel() == 1:
        return scale.float().reshape(())
    if scale.numel() != stored.shape[0]:
        raise ValueError(f"{scale.numel()} scales for {stored.shape[0]} rows")
    return scale.float().reshape(-1, *(1 for _ in stored.shape[1:]))


def fp8_scale(largest: Tensor) -> Tensor:
    """The scale at which a magnitude of `largest` becomes the largest of e4m3, so that nothing is cut off."""
    return (largest.float() / E4M3_MAX).clamp(min=SMALLEST_SCALE)


def encode_fp8(values: Tensor, scale: Tensor | float) -> Tensor:
    """`values` over `scale`, rounded to e4m3; magnitudes beyond its range become its largest."""
    return (values.float() / scale).clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
