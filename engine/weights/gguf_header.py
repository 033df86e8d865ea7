"""Headers of GGUF files: what the file says of itself, and where which tensor lies. No torch, no values read.

The layout is that of the format's versions 2 and 3, which differ only in that 3 may be big-endian; files are read that
are little-endian, as all published ones are.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from engine.weights.gguf_fields import INTEGERS, U32, U64, ArrayField, Fields, Value, open_fields, shown
from engine.weights.gguf_types import type_of
from engine.weights.header import Header, TensorInfo

VERSIONS = (2, 3)
MAX_ENTRIES = 1 << 16  # of tensors or of metadata; the largest network in reach has 2,000 tensors
MAX_DIMS = 5  # the format's own is 4, which Wan's files pass for the convolution that embeds patches
MAX_TRUE_DIMS = 8
ALIGNMENT_KEY, ALIGNMENT, LEAST_ALIGNMENT = "general.alignment", 32, 8
TRUE_SHAPE_KEY = "comfy.gguf.orig_shape."
LARGEST = 2**63 - 1  # what a size can be in torch


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """One stored tensor.

    info: with the shape before it was put into at most four dimensions. stored_shape: that of its rows of blocks, in
    torch's order, counted in values. start: its first byte in the file.
    """

    info: TensorInfo
    stored_shape: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The tensors in the file's order, the scalars of its metadata as texts, and where its arrays lie."""

    tensors: Mapping[str, GgufTensor]
    metadata: Mapping[str, str]
    arrays: Mapping[str, ArrayField]
    file_bytes: int

    @property
    def infos(self) -> Header:
        """The tensors as those of any checkpoint."""
        return {name: tensor.info for name, tensor in self.tensors.items()}


def read_gguf_header(file: Path) -> GgufHeader:
    """The header of a GGUF `file`; types that cannot be read are listed like all others.

    Raises MODEL_INVALID when the file is none, is of another version or byte order, damaged, or cut short.
    """
    with open_fields(file) as fields:
        return parse_header(fields)


def parse_header(fields: Fields) -> GgufHeader:
    """The header of a file whose magic was read. Raises ValueError with the reason."""
    _check_version(fields.count(U32))
    tensor_count, value_count = fields.count(), fields.count()
    if max(tensor_count, value_count) > MAX_ENTRIES:
        raise ValueError(f"it claims {tensor_count} tensors and {value_count} values of metadata")
    values = _read_values(fields, value_count)
    tensors = _read_tensors(fields, tensor_count)
    alignment = _alignment(values)
    data_start = -(-fields.position // alignment) * alignment
    placed = {name: _placed(name, tensor, data_start, alignment) for name, tensor in tensors.items()}
    return GgufHeader(
        tensors=_reshaped(_with_sizes(placed, fields.file_bytes), values, fields),
        metadata={key: _as_text(value) for key, value in values.items() if not isinstance(value, ArrayField)},
        arrays={key: value for key, value in values.items() if isinstance(value, ArrayField)},
        file_bytes=fields.file_bytes,
    )


def _check_version(version: int) -> None:
    if version and not version & 0xFFFF:  # a small number with its bytes turned round
        raise ValueError("a big-endian GGUF file; only little-endian ones can be read")
    if version not in VERSIONS:
        raise ValueError(f"a GGUF file of version {version}; versions 2 and 3 can be read")


def _read_values(fields: Fields, count: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for _ in range(count):
        key = fields.text()
        if key in values:
            raise ValueError(f"two values of {shown(key)}")
        values[key] = fields.value(fields.count(U32))
    return values


def _read_tensors(fields: Fields, count: int) -> dict[str, GgufTensor]:
    """The tensors with their starts still counted from where the data begins, and without sizes."""
    tensors: dict[str, GgufTensor] = {}
    for _ in range(count):
        name = fields.text()
        if name in tensors:
            raise ValueError(f"two tensors {shown(name)}")
        tensors[name] = _read_tensor(fields, name)
    return tensors


def _read_tensor(fields: Fields, name: str) -> GgufTensor:
    dims = fields.count(U32)
    if dims > MAX_DIMS:
        raise ValueError(f"{shown(name)} has {dims} dimensions")
    shape = tuple(reversed([fields.count() for _ in range(dims)]))  # the file names the innermost first
    if not 0 < math.prod(shape) <= LARGEST:
        raise ValueError(f"{shown(name)} has the shape {list(shape)}")
    stored, start = type_of(fields.count(U32)), fields.count(U64)
    if stored.values and (shape[-1] if shape else 1) % stored.values:
        raise ValueError(f"{shown(name)} has the shape {list(shape)}, which {stored.name} cannot store")
    byte_count = math.prod(shape) // stored.values * stored.byte_count if stored.values else 0
    return GgufTensor(TensorInfo(stored.name, shape, byte_count), shape, start)


def _alignment(values: Mapping[str, Value]) -> int:
    alignment = values.get(ALIGNMENT_KEY, ALIGNMENT)
    # A smaller one, which the format forbids, would leave numbers where they cannot be mapped.
    if type(alignment) is not int or alignment < LEAST_ALIGNMENT or alignment & (alignment - 1):
        raise ValueError(f"it says that its tensors are aligned to {shown(str(alignment))} bytes")
    return alignment


def _placed(name: str, tensor: GgufTensor, data_start: int, alignment: int) -> GgufTensor:
    if tensor.start % alignment:
        raise ValueError(f"{shown(name)} begins at byte {tensor.start}, which is not aligned to {alignment}")
    return replace(tensor, start=data_start + tensor.start)


def _with_sizes(tensors: Mapping[str, GgufTensor], file_bytes: int) -> dict[str, GgufTensor]:
    """The tensors, seen to lie in the file and apart; one of unknown type takes what is left before the next."""
    needed = max((tensor.start + tensor.info.byte_count for tensor in tensors.values()), default=0)
    if needed > file_bytes:
        raise ValueError(f"cut short: {file_bytes} of {needed} bytes")
    by_start = sorted(tensors, key=lambda name: tensors[name].start)
    starts = [tensors[name].start for name in by_start]
    stops = dict(zip(by_start, [*starts[1:], file_bytes], strict=False))
    return {name: _sized(name, tensor, stops[name]) for name, tensor in tensors.items()}


def _sized(name: str, tensor: GgufTensor, stop: int) -> GgufTensor:
    room = stop - tensor.start
    if not tensor.info.byte_count <= room or not room:
        raise ValueError(f"{shown(name)} overlaps another tensor")
    return tensor if tensor.info.byte_count else replace(tensor, info=replace(tensor.info, byte_count=room))


def _reshaped(tensors: Mapping[str, GgufTensor], values: Mapping[str, Value], fields: Fields) -> dict[str, GgufTensor]:
    """The tensors with the shapes that they had before they were written, where the file tells them."""
    reshaped = dict(tensors)
    for name, tensor in tensors.items():
        if (value := values.get(TRUE_SHAPE_KEY + name)) is not None:
            shape = _true_shape(name, tensor, value, fields)
            reshaped[name] = replace(tensor, info=replace(tensor.info, shape=shape))
    return reshaped


def _true_shape(name: str, tensor: GgufTensor, value: Value, fields: Fields) -> tuple[int, ...]:
    if not isinstance(value, ArrayField) or value.kind not in INTEGERS or value.count > MAX_TRUE_DIMS:
        raise ValueError(f"the shape of {shown(name)} is no list of up to {MAX_TRUE_DIMS} whole numbers")
    shape = tuple(map(int, fields.numbers(value)))
    if min(shape, default=1) < 1 or math.prod(shape) != math.prod(tensor.stored_shape):
        raise ValueError(f"{shown(name)} is stored as {list(tensor.stored_shape)}, which is no {list(shape)}")
    return shape


def _as_text(value: int | float | bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
