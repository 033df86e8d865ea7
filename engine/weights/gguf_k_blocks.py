"""GGUF's blocks of 256 values in groups with scales of their own: Q2_K to Q6_K. Pure.

Formulas are the format's own, as the `gguf` package computes them in float32. Each function takes whole blocks, uint8
[B, bytes of a block], and gives float32 [B, 256].
"""

import torch
from torch import Tensor

from engine.weights.gguf_bits import bit_fields, halves, scaled

RUN = 32
SCALE = slice(0, 2)
MINIMUM = slice(2, 4)
GROUPS = slice(4, 16)


def q2_k(blocks: Tensor) -> Tensor:
    """16 groups of code * scale - minimum, in units of two half floats."""
    groups = blocks[:, :16]
    scales = halves(blocks[:, 80:82]) * (groups & 15)
    minima = halves(blocks[:, 82:84]) * (groups >> 4)
    return _less(scaled(bit_fields(blocks[:, 16:80], 2, RUN), scales), minima)


def q3_k(blocks: Tensor) -> Tensor:
    """16 groups of (code - 4) * (scale - 32); the code's highest bit lies apart."""
    codes = bit_fields(blocks[:, 32:96], 2, RUN).bitwise_or_(bit_fields(blocks[:, :32], 1, RUN).mul_(4))
    low, high = bit_fields(blocks[:, 96:104], 4, 8), bit_fields(blocks[:, 104:108], 2, 4)
    scales = halves(blocks[:, 108:110]) * low.bitwise_or_(high.mul_(16)).float().sub_(32)
    return scaled(codes.float().sub_(4), scales)


def q4_k(blocks: Tensor) -> Tensor:
    """8 groups of code * scale - minimum."""
    scales, minima = _scales_and_minima(blocks)
    return _less(scaled(bit_fields(blocks[:, 16:], 4, RUN), scales), minima)


def q5_k(blocks: Tensor) -> Tensor:
    """8 groups of code * scale - minimum; the code's highest bit lies apart."""
    scales, minima = _scales_and_minima(blocks)
    codes = bit_fields(blocks[:, 48:], 4, RUN).bitwise_or_(bit_fields(blocks[:, 16:48], 1, RUN).mul_(16))
    return _less(scaled(codes, scales), minima)


def q6_k(blocks: Tensor) -> Tensor:
    """16 groups of (code - 32) * signed scale; the code's two highest bits lie apart."""
    codes = bit_fields(blocks[:, :128], 4, 64).bitwise_or_(bit_fields(blocks[:, 128:192], 2, RUN).mul_(16))
    scales = halves(blocks[:, 208:210]) * blocks[:, 192:208].view(torch.int8)
    return scaled(codes.float().sub_(32), scales)


def _scales_and_minima(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of the 8 groups of Q4_K and Q5_K, float32 [B, 8] each, out of 12 bytes of 6-bit numbers.

    Bytes 0-3 and 4-7 hold the first four scales and minima, with the two high bits of the last four above them; bytes
    8-11 hold the low halves of those.
    """
    scales, minima, low = blocks[:, GROUPS].unflatten(1, (3, 4)).unbind(1)
    all_scales = torch.cat([scales & 63, (low & 15) | (scales >> 6 << 4)], 1)  # B 8
    all_minima = torch.cat([minima & 63, (low >> 4) | (minima >> 6 << 4)], 1)  # B 8
    return halves(blocks[:, SCALE]) * all_scales, halves(blocks[:, MINIMUM]) * all_minima


def _less(values: Tensor, minima: Tensor) -> Tensor:
    return values.unflatten(1, (minima.shape[1], -1)).sub_(minima[:, :, None]).flatten(1)
