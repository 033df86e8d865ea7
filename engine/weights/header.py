"""Headers of safetensors files: names, dtypes and shapes, read without torch and without the values.

A header is believed only when all of it fits together and fits the file. Lives on the thread of its caller.
"""

import os
import reprlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

from engine.errors import EngineError, ErrorCode
from engine.weights.strict_json import check_text, parse_object

# The format's own limit; a larger number means that the first bytes are something else.
MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8
GGUF_START, ZIP_START = b"GGUF", b"PK\x03\x04"  # of the other kinds of model files; torch.save writes the latter
METADATA = "__metadata__"
LARGEST_SIZE = 2**63 - 1  # of a dimension and of all values together, as torch counts them
LONGEST_REASON = 200

# Bits of one value of every dtype that safetensors 0.8 knows.
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32}
BITS |= {"F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor.

    dtype: as safetensors name it (F32, BF16, F8_E4M3, U8, ...), or the type of a GGUF file's blocks (Q4_K, Q8_0, ...).
    shape: in torch's order; of blocks, that of the values they hold.
    """

    dtype: str
    shape: tuple[int, ...]
    byte_count: int


Header = dict[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a safetensors file says of itself; `starts`: where each tensor begins, in bytes of the file."""

    header: Header
    starts: Mapping[str, int]
    metadata: Mapping[str, str]


def invalid(file: Path, reason: str) -> EngineError:
    """The failure MODEL_INVALID of a model file, for the caller to raise."""
    return EngineError(ErrorCode.MODEL_INVALID, file=str(file), reason=reason)


def said(error: Exception) -> str:
    """The first line of what a library says, without characters that cannot be printed."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:LONGEST_REASON].encode("utf-8", "backslashreplace").decode()


def read_header(file: Path) -> Header:
    """The tensors of a safetensors `file` by name. Raises MODEL_INVALID when it is unreadable or not whole."""
    return read_contents(file).header


def read_contents(file: Path) -> Contents:
    """What the header of a safetensors `file` says. Raises MODEL_INVALID, naming the tensor where one is at fault."""
    with open_file(file) as stream:
        try:
            file_bytes = os.fstat(stream.fileno()).st_size
            text = _read_text(stream)
            entries = parse_object(text)
        except OSError as error:
            raise invalid(file, said(error)) from error
        except ValueError as error:
            raise invalid(file, f"not a safetensors file: {said(error)}") from error
    try:
        return _contents(entries, LENGTH_BYTES + len(text), file_bytes)
    except ValueError as error:
        raise invalid(file, said(error)) from error


def open_file(file: Path) -> BinaryIO:
    """A model's file, opened for reading. Raises MODEL_INVALID for what is no file, is empty or cannot be opened."""
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            raise invalid(file, "a folder, not a file")
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise invalid(file, "not a file")
        if not status.st_size:
            raise invalid(file, "empty")
        return file.open("rb")
    except (OSError, ValueError) as error:
        raise invalid(file, said(error)) from error


def is_header_length(start: bytes) -> bool:
    """Whether a file that begins with `start` can be a safetensors file."""
    return len(start) >= LENGTH_BYTES and 2 <= int.from_bytes(start[:LENGTH_BYTES], "little") <= MAX_HEADER_BYTES


def _read_text(stream: BinaryIO) -> bytes:
    start = stream.read(LENGTH_BYTES)
    length = int.from_bytes(start, "little")
    if not is_header_length(start):
        raise ValueError(f"header of {length} bytes")
    text = stream.read(length)
    if len(text) < length:
        raise ValueError(f"header cut short: {len(text)} of {length} bytes")
    if not text.startswith(b"{"):
        raise ValueError("header does not begin as one")
    return text


def _contents(entries: dict[str, Any], header_bytes: int, file_bytes: int) -> Contents:
    metadata = _metadata(entries.pop(METADATA, {}))
    header: Header = {}
    starts: dict[str, int] = {}
    for name, entry in entries.items():
        try:
            header[name], start = _tensor(entry)
        except ValueError as error:
            raise ValueError(f"{_shown(name)}: {error}") from error
        starts[name] = header_bytes + start
    _check_places(header, starts, header_bytes, file_bytes)
    return Contents(header, starts, metadata)


def _metadata(entry: object) -> dict[str, str]:
    if not isinstance(entry, dict):
        raise ValueError(f"{METADATA} is {reprlib.repr(entry)}")
    for name, text in entry.items():
        if not isinstance(text, str):
            raise ValueError(f"{METADATA}: {_shown(name)} is not a text")
        check_text(text)
    return entry


def _tensor(entry: object) -> tuple[TensorInfo, int]:
    """A tensor and its first byte after the header. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError(f"described as {reprlib.repr(entry)}")
    dtype, shape, place = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"its dtype {reprlib.repr(dtype)} is unknown")
    if not _are_sizes(shape):
        raise ValueError(f"its shape is {reprlib.repr(shape)}")
    if not _are_sizes(place) or len(place) != 2 or place[0] > place[1]:
        raise ValueError(f"its place is {reprlib.repr(place)}")
    needed, there = _byte_count(dtype, shape), place[1] - place[0]
    if needed != there:
        raise ValueError(f"{dtype} {reprlib.repr(shape)} takes {needed} bytes, not {there}")
    return TensorInfo(dtype, tuple(shape), needed), place[0]


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and 0 <= size <= LARGEST_SIZE for size in value)


def _byte_count(dtype: str, shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
        if count > LARGEST_SIZE:  # before the number grows as long as the header
            raise ValueError(f"its shape {reprlib.repr(shape)} is too large")
    if count * BITS[dtype] % 8:
        raise ValueError(f"{dtype} {reprlib.repr(shape)} ends within a byte")
    return count * BITS[dtype] // 8


def _check_places(header: Header, starts: dict[str, int], header_bytes: int, file_bytes: int) -> None:
    """Every byte of the file belongs to the header or to one tensor. Raises ValueError."""
    end, last = header_bytes, "the header"
    for name in sorted(header, key=lambda name: (starts[name], header[name].byte_count)):
        if starts[name] < end:
            raise ValueError(f"{_shown(name)}: overlaps {last}")
        if starts[name] > end:
            raise ValueError(f"{_shown(name)}: {starts[name] - end} bytes of nothing before it")
        end, last = end + header[name].byte_count, _shown(name)
    if file_bytes < end:
        raise ValueError(f"cut short: {file_bytes} of {end} bytes")
    if file_bytes > end:
        raise ValueError(f"{file_bytes - end} bytes too many at its end")


def _shown(name: str) -> str:
    return name if len(name) <= LONGEST_REASON // 2 else f"{name[: LONGEST_REASON // 2]}..."
