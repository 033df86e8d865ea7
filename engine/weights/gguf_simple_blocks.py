"""GGUF's blocks of 32 values with one scale: Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0. Pure.

Formulas are the format's own, as the `gguf` package computes them in float32. Each function takes whole blocks, uint8
[B, bytes of a block], and gives float32 [B, 32].
"""

import torch
from torch import Tensor

from engine.weights.gguf_bits import bit_fields, halves, scaled

SCALE = slice(0, 2)
MINIMUM = slice(2, 4)
RUN = 16  # of the 32 values the low halves of the bytes are the first 16


def q4_0(blocks: Tensor) -> Tensor:
    """(code - 8) * scale."""
    codes = bit_fields(blocks[:, 2:], 4, RUN).float().sub_(8)
    return scaled(codes, halves(blocks[:, SCALE]))


def q4_1(blocks: Tensor) -> Tensor:
    """Code * scale + minimum."""
    codes = bit_fields(blocks[:, 4:], 4, RUN)
    return scaled(codes, halves(blocks[:, SCALE])).add_(halves(blocks[:, MINIMUM]))


def q5_0(blocks: Tensor) -> Tensor:
    """(code - 16) * scale."""
    codes = _five_bits(blocks[:, 2:6], blocks[:, 6:]).float().sub_(16)
    return scaled(codes, halves(blocks[:, SCALE]))


def q5_1(blocks: Tensor) -> Tensor:
    """Code * scale + minimum."""
    codes = _five_bits(blocks[:, 4:8], blocks[:, 8:])
    return scaled(codes, halves(blocks[:, SCALE])).add_(halves(blocks[:, MINIMUM]))


def q8_0(blocks: Tensor) -> Tensor:
    """Signed code * scale."""
    return scaled(blocks[:, 2:].view(torch.int8), halves(blocks[:, SCALE]))


def _five_bits(high: Tensor, low: Tensor) -> Tensor:
    return bit_fields(low, 4, RUN).bitwise_or_(bit_fields(high, 1, 1).mul_(16))
