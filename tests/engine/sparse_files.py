"""Safetensors files of the true size of real checkpoints that take no room on disk: a header and a hole."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


def write_sparse(
    path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a file whose tensors are all zeros; `tensors` has the dtype (as safetensors name it) and shape of each."""
    header: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + byte_count(dtype, shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def byte_count(dtype: str, shape: tuple[int, ...]) -> int:
    """How many bytes the values of a tensor take."""
    bits = BITS[dtype] * math.prod(shape)
    assert bits % 8 == 0, f"{dtype} {shape} does not fill its last byte"
    return bits // 8
