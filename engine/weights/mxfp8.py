"""MXFP8 weights: e4m3 values with a power of two for 32 columns. Pure.

R rows and C columns; both are padded with zeros to multiples of 32 where they are stored.
"""

import torch
from torch import Tensor

from engine.weights.block_scales import unswizzle

BLOCK = 32
MANTISSA_BITS = 23  # of a float32, whose exponent has the bias of e8m0


def dequantize_mxfp8(stored: Tensor, block_scales: Tensor, shape: tuple[int, int]) -> Tensor:
    """Values [R, C] = `shape` in float32.

    stored: e4m3 [R padded, C padded]. block_scales: a byte of e8m0 for 32 columns, in the order of
    `engine.weights.block_scales`. Raises ValueError when the sizes do not belong together.
    """
    if stored.ndim != 2 or stored.shape[0] < shape[0] or stored.shape[1] < shape[1] or stored.shape[1] % BLOCK:
        raise ValueError(f"stored values {list(stored.shape)} for a weight of {list(shape)}")
    rows, columns = stored.shape
    scales = powers_of_two(unswizzle(block_scales, rows, columns // BLOCK).view(torch.uint8))
    values = stored.float().view(rows, -1, BLOCK).mul_(scales[..., None])
    return values.view(rows, columns)[: shape[0], : shape[1]]


def powers_of_two(exponents: Tensor) -> Tensor:
    """2^(b - 127) in float32 of bytes b, and 0 of b = 0."""
    return (exponents.int() << MANTISSA_BITS).view(torch.float32)
