"""Headers of safetensors files: names, dtypes and shapes, read without torch and without the values."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.errors import EngineError, ErrorCode

# The format's own limit; a larger number means that the first bytes are something else.
MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor; `dtype` as the format names it (F32, BF16, ...), `end_byte` counted from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    end_byte: int


Header = dict[str, TensorInfo]


def invalid(file: Path, reason: str) -> EngineError:
    """The failure MODEL_INVALID of a model file, for the caller to raise."""
    return EngineError(ErrorCode.MODEL_INVALID, file=str(file), reason=reason)


def read_header(file: Path) -> Header:
    """The tensors of a safetensors `file` by name. Raises MODEL_INVALID when it is unreadable or cut short."""
    try:
        with file.open("rb") as stream:
            text = _read_text(stream)
        header = _parse(text)
        size = file.stat().st_size
    except OSError as error:
        raise invalid(file, str(error)) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise invalid(file, f"not a safetensors file: {error}") from error
    needed = LENGTH_BYTES + len(text) + max((info.end_byte for info in header.values()), default=0)
    if size < needed:
        raise invalid(file, f"cut short: {size} of {needed} bytes")
    return header


def _read_text(stream: BinaryIO) -> bytes:
    length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
    if not 2 <= length <= MAX_HEADER_BYTES:
        raise ValueError(f"header of {length} bytes")
    text = stream.read(length)
    if len(text) < length:
        raise ValueError(f"header cut short: {len(text)} of {length} bytes")
    return text


def _parse(text: bytes) -> Header:
    entries = json.loads(text)
    entries.pop("__metadata__", None)
    return {
        name: TensorInfo(str(entry["dtype"]), tuple(map(int, entry["shape"])), int(entry["data_offsets"][1]))
        for name, entry in entries.items()
    }
