"""Weights rounded to eight- and four-bit floats, with the scales that lose least. Lives on the engine's thread.

R output rows, C columns of a weight. Everything goes some rows at a time, so that temporaries stay small.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.weights.block_scales import swizzle
from engine.weights.dequantize import StoredTensors
from engine.weights.fp8 import encode_fp8, fp8_scale
from engine.weights.nvfp4 import BLOCK, encode_nvfp4, pack, padded_shape, tensor_scale_for
from engine.weights.source import Part, QuantFormat, WeightSource

# Scales of e4m3 over the one at which the largest magnitude becomes its largest. The step of a float doubles with each
# power of two, so it matters where between two of them the values lie that hold most of the weight's norm: mostly
# little, but a few columns of outliers leave between 2.5 and 2.8 %.
SCALE_FACTORS = tuple(2 ** (step / 4) for step in range(4))

# Scales of the blocks of NVFP4 over the one at which a block's largest becomes 6, in steps of e4m3, 8 to a factor of 2.
# Above the first, the largest value of a block comes to lie on 4 or 3, where its neighbours are closer together;
# below it, it is cut off for the sake of the others. On normal weights these eight leave 8.2 % of error, the first
# alone leaves 9.5 %, and ten would leave 8.1 %.
SCALE_STEPS = range(-2, 6)
# Values that are searched at a time: as many as stay in the cache of a core, or as keep a card busy.
SEARCHED_VALUES = {"cpu": 1 << 18, "cuda": 1 << 22}


def quantize_weight(weight: Tensor, to: QuantFormat, *, scale_rows: bool = True) -> StoredTensors:
    """A weight [R, C] of floats in the form `to`, which is FP8_E4M3 or NVFP4.

    scale_rows: of FP8, a scale for each row. Raises ValueError when the weight holds a value that is not finite.
    """
    shape = (weight.shape[0], weight.shape[1])
    parts: dict[Part, Tensor]
    if to is QuantFormat.NVFP4:
        data, scales, tensor_scale = quantize_nvfp4(weight)
        parts, dtype = {Part.WEIGHT_SCALE: scales, Part.WEIGHT_SCALE_2: tensor_scale}, "U8"
    elif to is QuantFormat.FP8_E4M3:
        data, scale = quantize_fp8(weight, scale_rows=scale_rows)
        parts, dtype = {Part.WEIGHT_SCALE: scale}, "F8_E4M3"
    else:
        raise ValueError(f"weights are not made into {to}")
    return StoredTensors(WeightSource("weight", shape, to, {part: part for part in parts}), dtype, data, parts)


def quantize_fp8(weight: Tensor, *, scale_rows: bool = True) -> tuple[Tensor, Tensor]:
    """A weight [R, C] as e4m3 [R, C] and its float32 scale [R, 1], or [] for one of the whole weight.

    The scale is that of SCALE_FACTORS which leaves the least squared error. Raises ValueError when the weight holds a
    value that is not finite.
    """
    largest = _largest_of_rows(weight)  # [R, 1]
    scale = fp8_scale(largest if scale_rows else largest.max())
    errors = _fp8_errors(weight, scale)  # [R, number of factors]
    best = errors.argmin(dim=1, keepdim=True) if scale_rows else errors.sum(dim=0).argmin()
    scale = scale * torch.tensor(SCALE_FACTORS, device=weight.device)[best]
    stored = torch.empty(weight.shape, dtype=torch.float8_e4m3fn, device=weight.device)
    for start, stop in _searched_rows(weight):
        stored[start:stop] = encode_fp8(weight[start:stop], scale[start:stop] if scale_rows else scale)
    return stored, scale


def _fp8_errors(weight: Tensor, scale: Tensor) -> Tensor:
    """The squared errors of the rows, in units of `scale`, that each of SCALE_FACTORS leaves."""
    errors = torch.empty(len(weight), len(SCALE_FACTORS), device=weight.device)
    for start, stop in _searched_rows(weight):
        scaled = weight[start:stop].float() / (scale[start:stop] if scale.ndim else scale)
        for i, factor in enumerate(SCALE_FACTORS):
            rounded = encode_fp8(scaled, factor).float()
            errors[start:stop, i] = rounded.mul_(factor).sub_(scaled).square_().sum(dim=1)
    return errors


def quantize_nvfp4(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A weight [R, C] as bytes [R padded, C padded / 2], swizzled e4m3 block scales, and the scale [] of all.

    Each block takes that scale of SCALE_STEPS which leaves the least squared error. Raises ValueError when the weight
    holds a value that is not finite.
    """
    rows, columns = padded_shape(*weight.shape)
    tensor_scale = tensor_scale_for(_largest_of_rows(weight).max())
    packed = torch.zeros(rows, columns // 2, dtype=torch.uint8, device=weight.device)
    scales = torch.zeros(rows, columns // BLOCK, dtype=torch.float8_e4m3fn, device=weight.device)
    for start, stop in _searched_rows(weight):
        block = F.pad(weight[start:stop].float(), (0, columns - weight.shape[1]))
        codes, scales[start:stop] = encode_nvfp4(block, tensor_scale, SCALE_STEPS)
        packed[start:stop] = pack(codes)
    return packed, swizzle(scales), tensor_scale


def _searched_rows(weight: Tensor) -> Iterator[tuple[int, int]]:
    rows, columns = weight.shape
    height = max(1, SEARCHED_VALUES.get(weight.device.type, SEARCHED_VALUES["cpu"]) // columns)
    for start in range(0, rows, height):
        yield start, min(start + height, rows)


def _largest_of_rows(weight: Tensor) -> Tensor:
    """The largest magnitudes [R, 1] in float32."""
    largest = torch.empty(weight.shape[0], 1, device=weight.device)
    for start, stop in _searched_rows(weight):
        largest[start:stop] = weight[start:stop].float().abs().amax(dim=1, keepdim=True)
    if not largest.isfinite().all():  # the maximum hands a NaN on
        raise ValueError("it holds a value that is not finite")
    return largest
