"""Stored weights of every form, and the values that they stand for. Lives on the engine's thread.

R output rows, C columns of a weight.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from engine.weights.block_scales import TILE_ROWS, swizzled_rows
from engine.weights.fp8 import dequantize_fp8
from engine.weights.gguf_blocks import dequantize_blocks
from engine.weights.header import Header
from engine.weights.int8 import dequantize_int8
from engine.weights.mxfp8 import BLOCK as MXFP8_BLOCK
from engine.weights.mxfp8 import dequantize_mxfp8
from engine.weights.nvfp4 import BLOCK as NVFP4_BLOCK
from engine.weights.nvfp4 import dequantize_nvfp4
from engine.weights.source import Part, QuantFormat, WeightSource

WORK_BYTES = 64 << 20  # of temporaries while a large weight is turned into values block by block
BYTES_A_VALUE = 16  # float32, that once more while it is scaled or rotated, its codes, the result in its dtype
STORED_DTYPES = {
    QuantFormat.FP8_E4M3: torch.float8_e4m3fn,
    QuantFormat.FP8_E5M2: torch.float8_e5m2,
    QuantFormat.MXFP8: torch.float8_e4m3fn,
    QuantFormat.NVFP4: torch.uint8,
    QuantFormat.INT8: torch.int8,
    QuantFormat.GGUF: torch.uint8,
}
SWIZZLED = {QuantFormat.NVFP4: NVFP4_BLOCK, QuantFormat.MXFP8: MXFP8_BLOCK}  # columns that share a scale


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """The stored tensors of one parameter.

    dtype: of `data`, as its file names it; of GGUF blocks their type.
    """

    source: WeightSource
    dtype: str
    data: Tensor
    parts: Mapping[Part, Tensor]


def read_tensors(source: WeightSource, read: Callable[[str], Tensor], header: Header) -> StoredTensors:
    """What `source`, which is stored in one piece, names in a checkpoint of that `header`, by its `read`.

    Raises what `read` raises, and ValueError for a scale that is missing.
    """
    missing = [part for part in _required(source.quantization) if part not in source.parts]
    if missing:
        raise ValueError(f"{source.name} has no {', '.join(missing)}")
    parts = {part: read(name) for part, name in source.parts.items()}
    data = read(source.name)
    packed = data.view(torch.uint8) if data.dtype is torch.float4_e2m1fn_x2 else data
    return StoredTensors(source, header[source.name].dtype, packed, parts)


def values_of(source: WeightSource, read: Callable[[str], Tensor], header: Header, dtype: torch.dtype) -> Tensor:
    """The values of a parameter in `dtype`, of `source.shape`, in host memory.

    They are not to be written to: those that are stored as they are wanted are not copied. Raises what `read` raises,
    and ValueError, with the stored name, when the stored tensors do not fit together.
    """
    if not source.pieces:
        return values(read_tensors(source, read, header), dtype)
    joined = torch.cat([values_of(piece, read, header, dtype) for piece in source.pieces])
    if joined.shape != source.shape:
        names = ", ".join(piece.name for piece in source.pieces)
        raise ValueError(f"{names}: {list(joined.shape)} instead of {list(source.shape)}")
    return joined


def values(stored: StoredTensors, dtype: torch.dtype) -> Tensor:
    """The values in `dtype`; computed in float32 and rounded once. Raises ValueError as `values_of` does."""
    source = stored.source
    try:
        _check_dtypes(stored)
        found = _float_values(stored)
        if found.numel() != prod(source.shape):
            raise ValueError(f"{list(found.shape)} instead of {list(source.shape)}")
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error
    return found.to(dtype).reshape(source.shape)


def check_tensors(stored: StoredTensors) -> None:
    """See from sizes and dtypes alone that `stored`, of two dims, has values. Raises ValueError as `values_of` does."""
    if stored.source.quantization is QuantFormat.GGUF:
        if len(stored.data) != stored.source.shape[0]:
            raise ValueError(f"{stored.source.name}: {len(stored.data)} rows instead of {stored.source.shape[0]}")
        stored = rows_of(stored, 0, 1)  # all rows are alike
    parts = {part: tensor.to("meta") for part, tensor in stored.parts.items()}
    values(dataclasses.replace(stored, data=stored.data.to("meta"), parts=parts), torch.float32)


def row_blocks(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """The rows of a matrix in pieces of whole tiles of scales, small enough to be worked on in `WORK_BYTES`."""
    height = max(1, WORK_BYTES // (BYTES_A_VALUE * columns * TILE_ROWS)) * TILE_ROWS
    for start in range(0, rows, height):
        yield start, min(start + height, rows)


def rows_of(stored: StoredTensors, start: int, stop: int) -> StoredTensors:
    """The rows from `start`, a multiple of 128, to `stop` of a weight of two dims; nothing is copied."""
    source = dataclasses.replace(stored.source, shape=(stop - start, stored.source.shape[1]))
    data = stored.data[start : _stored_stop(stored, stop)]
    scale = stored.parts.get(Part.WEIGHT_SCALE)
    if scale is None or scale.numel() == 1:
        return dataclasses.replace(stored, source=source, data=data)
    part = _scale_rows(stored, scale, start, start + data.shape[0])
    return dataclasses.replace(stored, source=source, data=data, parts={**stored.parts, Part.WEIGHT_SCALE: part})


def _stored_stop(stored: StoredTensors, stop: int) -> int:
    """`stop`, or the end of what is stored where the last rows of the weight are followed by padding."""
    return len(stored.data) if stop == stored.source.shape[0] else stop


def _scale_rows(stored: StoredTensors, scale: Tensor, start: int, stop: int) -> Tensor:
    block = SWIZZLED.get(stored.source.quantization) if stored.source.quantization else None
    if block is None:
        return scale[start:stop]
    values_a_column = 2 if stored.source.quantization is QuantFormat.NVFP4 else 1
    return swizzled_rows(scale, stored.data.shape[1] * values_a_column // block, start, stop)


def _required(quantization: QuantFormat | None) -> tuple[Part, ...]:
    match quantization:
        case QuantFormat.NVFP4:
            return Part.WEIGHT_SCALE, Part.WEIGHT_SCALE_2
        case QuantFormat.MXFP8 | QuantFormat.INT8:
            return (Part.WEIGHT_SCALE,)
        case _:  # floats of eight bits may come without a scale
            return ()


def _check_dtypes(stored: StoredTensors) -> None:
    quantization, dtype = stored.source.quantization, stored.data.dtype
    if dtype != STORED_DTYPES[quantization] if quantization else not dtype.is_floating_point:
        raise ValueError(f"stored as {stored.dtype}, which is not {quantization or 'floats'}")
    for part, tensor in stored.parts.items():
        is_block_scale = part is Part.WEIGHT_SCALE and quantization in SWIZZLED
        if tensor.itemsize != 1 if is_block_scale else not tensor.dtype.is_floating_point:
            raise ValueError(f"its {part} is stored as {tensor.dtype}")


def _float_values(stored: StoredTensors) -> Tensor:
    """The values, of plain floats in their own dtype, else in float32; the scale of the input is part of them."""
    found = _unscaled(stored)
    columns = stored.parts.get(Part.PRE_QUANT_SCALE)
    if columns is None:
        return found
    if columns.numel() != found.shape[-1]:
        raise ValueError(f"{columns.numel()} scales of the input for {found.shape[-1]} columns")
    return found.float() * columns.float().reshape(-1)


def _unscaled(stored: StoredTensors) -> Tensor:
    source, data, scale = stored.source, stored.data, stored.parts.get(Part.WEIGHT_SCALE)
    match source.quantization:
        case None:
            return data
        case QuantFormat.FP8_E4M3 | QuantFormat.FP8_E5M2:
            return dequantize_fp8(data, scale)
        case QuantFormat.GGUF:
            return dequantize_blocks(data, stored.dtype, source.shape, torch.float32)
        case QuantFormat.INT8:
            return dequantize_int8(data, stored.parts[Part.WEIGHT_SCALE], source.rotation)
        case QuantFormat.MXFP8:
            return dequantize_mxfp8(data, stored.parts[Part.WEIGHT_SCALE], _matrix(source.shape))
        case QuantFormat.NVFP4:
            scales, tensor_scale = stored.parts[Part.WEIGHT_SCALE], tensor_scale_of(stored)
            shape, low_first = _matrix(source.shape), source.low_nibble_first
            return dequantize_nvfp4(data, scales, tensor_scale, shape, low_nibble_first=low_first)


def tensor_scale_of(stored: StoredTensors) -> Tensor:
    """The float32 scale [] of a whole NVFP4 weight.

    Files with the low nibble first, which are LightX2V's, hold it divided by the scale of the input; in others
    the scale of the input is a hint for products in four bits, and none of the weight's business.
    """
    scale = _only(stored.parts[Part.WEIGHT_SCALE_2])
    if stored.source.low_nibble_first and Part.INPUT_SCALE in stored.parts:
        return scale * _only(stored.parts[Part.INPUT_SCALE])
    return scale


def _only(scale: Tensor) -> Tensor:
    if scale.numel() != 1:
        raise ValueError(f"{scale.numel()} scales for a whole weight")
    return scale.float().reshape(())


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"a weight of {len(shape)} dims in blocks of columns")
    return shape[0], shape[1]
