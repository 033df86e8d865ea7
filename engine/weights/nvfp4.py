"""NVFP4 weights: two values a byte, an e4m3 scale for 16 columns and a float32 one for all. Pure.

A value is one of 0, 0.5, 1, 1.5, 2, 3, 4, 6 with a sign (e2m1), times the scale of its block, times that of the
tensor. R rows and C columns; both are padded with zeros to multiples of 16 where they are stored.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.weights.block_scales import round_up, unswizzle
from engine.weights.fp8 import E4M3_MAX

BLOCK = 16
E2M1_MAX = 6.0
MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
SIGN_BIT = 8
LARGEST_SCALE_CODE = 126  # of e4m3; 127 is not a number
SMALLEST_TENSOR_SCALE = torch.finfo(torch.float32).tiny  # of weights that are zero
VALUES = (*MAGNITUDES, *(-magnitude for magnitude in MAGNITUDES))


def padded_shape(rows: int, columns: int) -> tuple[int, int]:
    """The shape of the values that are stored for `rows` and `columns` of them."""
    return round_up(rows, BLOCK), round_up(columns, BLOCK)


def dequantize_nvfp4(
    packed: Tensor,
    block_scales: Tensor,
    tensor_scale: Tensor,
    shape: tuple[int, int],
    *,
    low_nibble_first: bool = False,
) -> Tensor:
    """Values [R, C] = `shape` in float32.

    packed: uint8 [R padded, C padded / 2]; an even column is the high half of a byte, or the low one.
    block_scales: e4m3 (or its bytes), one for 16 columns, in the order of `engine.weights.block_scales`.
    tensor_scale: float32 []. Raises ValueError when the sizes do not belong together.
    """
    if (
        packed.ndim != 2
        or packed.shape[0] < shape[0]
        or packed.shape[1] * 2 < shape[1]
        or packed.shape[1] % (BLOCK // 2)
    ):
        raise ValueError(f"packed values {list(packed.shape)} for a weight of {list(shape)}")
    rows, blocks = packed.shape[0], packed.shape[1] * 2 // BLOCK
    scales = unswizzle(block_scales, rows, blocks).view(torch.float8_e4m3fn).float() * tensor_scale
    values = unpack(packed, low_nibble_first=low_nibble_first).view(rows, blocks, BLOCK)
    return values.mul_(scales[..., None]).view(rows, -1)[: shape[0], : shape[1]]


def unpack(packed: Tensor, *, low_nibble_first: bool = False) -> Tensor:
    """The values [R, C] in float32, before any scale, of bytes [R, C/2]."""
    codes = torch.arange(256)
    halves = torch.stack([codes & 15, codes >> 4] if low_nibble_first else [codes >> 4, codes & 15], dim=1)
    pairs = torch.tensor(VALUES)[halves].to(packed.device)  # [256, 2]
    return F.embedding(packed.int(), pairs).flatten(1)


def pack(codes: Tensor, *, low_nibble_first: bool = False) -> Tensor:
    """Bytes [R, C/2] of codes [R, C] (uint8, 0 to 15)."""
    even, odd = codes.unflatten(1, (-1, 2)).unbind(-1)
    return (odd << 4 | even) if low_nibble_first else (even << 4 | odd)


def tensor_scale_for(largest: Tensor) -> Tensor:
    """The scale [] of all at which a block whose largest magnitude is `largest` has the largest scale of e4m3."""
    return (largest.float() / (E4M3_MAX * E2M1_MAX)).clamp(min=SMALLEST_TENSOR_SCALE)


def encode_nvfp4(values: Tensor, tensor_scale: Tensor, scale_steps: Iterable[int]) -> tuple[Tensor, Tensor]:
    """The codes [R, C] of values [R, C] and their block scales [R, C/16] (e4m3, not swizzled), for one scale of all.

    scale_steps: the block scales that are tried, in steps of e4m3 (8 to a factor of 2) from the one at which the
    largest value of a block becomes 6. Each block takes the one that leaves the least squared error.
    """
    blocks = (values.float() / tensor_scale).unflatten(1, (-1, BLOCK))  # so scaled, no square leaves float32
    magnitudes = blocks.abs()
    first = (magnitudes.amax(dim=-1) / E2M1_MAX).clamp_(max=E4M3_MAX)
    first_code = first.to(torch.float8_e4m3fn).view(torch.uint8).int()  # codes grow with the values
    best_code, least = torch.zeros_like(first_code), magnitudes.square().sum(dim=-1)  # a scale of 0 leaves everything
    for step in scale_steps:
        code = (first_code + step).clamp_(1, LARGEST_SCALE_CODE)
        scales = _scales(code).unsqueeze(-1)
        rounded = _round_magnitudes(magnitudes / scales).mul_(scales)
        error = rounded.sub_(magnitudes).square_().sum(dim=-1)
        best_code = torch.where(error < least, code, best_code)
        least = torch.minimum(error, least)
    scales = _scales(best_code).unsqueeze(-1)
    rounded = round_to_e2m1(torch.where(scales > 0, blocks / scales, 0))
    return codes_of(rounded.flatten(1)), best_code.to(torch.uint8).view(torch.float8_e4m3fn)


def _scales(codes: Tensor) -> Tensor:
    return codes.to(torch.uint8).view(torch.float8_e4m3fn).float()


def round_to_e2m1(scaled: Tensor) -> Tensor:
    """The nearest values of e2m1, of two that are as near the one whose code is even; beyond 6 it is 6."""
    return _round_magnitudes(scaled.abs()).copysign_(scaled)


def _round_magnitudes(magnitudes: Tensor) -> Tensor:
    """`magnitudes`, which are written over, rounded to MAGNITUDES: their step is 0.5, from 2 on 1, from 4 on 2."""
    magnitudes.clamp_(max=E2M1_MAX)
    step = torch.where(magnitudes < 2, 0.5, torch.where(magnitudes < 4, 1.0, 2.0))
    return magnitudes.div_(step).round_().mul_(step)


def codes_of(rounded: Tensor) -> Tensor:
    """The codes (uint8) of values that are exactly those of e2m1."""
    magnitude = rounded.abs()
    code = torch.where(magnitude <= 2, magnitude * 2, torch.where(magnitude <= 4, magnitude + 2, 7))
    return code.to(torch.uint8) | (rounded.signbit().to(torch.uint8) * SIGN_BIT)
