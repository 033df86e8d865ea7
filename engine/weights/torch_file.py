"""Files of `torch.save` (.pth, .pt, .bin) as a checkpoint. Lives on the engine thread.

Nothing in such a file is ever executed: of its pickle only what rebuilds tensors is followed. It is followed without
values, so that it says names, shapes and places; the values are then read from the mapped file like those of any
other, from places that the archive's own directory confirms.
"""

import pickle
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.header import LENGTH_BYTES, MAX_HEADER_BYTES, Header, TensorInfo, invalid, open_file, said
from engine.weights.mapped_file import DTYPES, MappedFile
from engine.weights.strict_json import check_text

PICKLE_START = b"\x80"  # what it wrote before, and what a safetensors file with a header of 128 bytes begins with
LOCAL_HEADER_BYTES = 30  # before each file of an archive; its last four bytes are the lengths of two fields after it
BYTE_ORDER = "byteorder"  # the name of its own file in the archive
WRAPPERS = ("model_state", "state_dict", "model")  # under which a training program keeps the tensors
NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor's values lie: a storage of `byte_count` bytes from byte `start` of the file, and how in it."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    start: int
    byte_count: int


def open_torch(file: Path) -> Checkpoint:
    """The tensors of a `file` of `torch.save`, a state dict, bare or wrapped.

    Raises MODEL_INVALID for one that is damaged, holds something else, or would have to run code to be opened.
    """
    mapped = MappedFile(file)  # before the pickle is read, so that a change in between is seen
    places = _places(file)

    def read(name: str) -> Tensor:
        place = places[name]
        stored = mapped.values(place.dtype, place.start, place.byte_count)
        return stored.as_strided(place.shape, place.stride, place.offset)

    header: Header = {
        name: TensorInfo(NAMES[place.dtype], place.shape, _value_bytes(place)) for name, place in places.items()
    }
    return Checkpoint((file,), header, {}, read)


def is_old_pickle(start: bytes) -> bool:
    """Whether a file that begins with these eight bytes is a pickle and no safetensors file."""
    return start.startswith(PICKLE_START) and int.from_bytes(start[:LENGTH_BYTES], "little") > MAX_HEADER_BYTES


def check_archive(file: Path) -> None:
    """Refuse compressed bytes, which would be mapped as if they were values, and could unpack to any size.

    Raises ValueError and OSError, and BadZipFile for what is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed")
            if entry.filename.endswith("data.pkl") and entry.file_size > MAX_HEADER_BYTES:
                raise ValueError(f"its names and shapes take {entry.file_size} bytes")


def _places(file: Path) -> dict[str, Place]:
    try:
        check_archive(file)
        state = _state(_without_values(file))
        records = _records(file)
    except pickle.UnpicklingError as error:
        raise invalid(file, "holds more than tensors, which may run code, or is damaged") from error
    except Exception as error:  # a damaged pickle may make anything of the functions that rebuild tensors
        raise invalid(file, f"damaged, or not a state dict of torch.save: {said(error)}") from error
    places: dict[str, Place] = {}
    for name, value in state.items():
        try:
            places[name] = _place(value, records)
        except (ValueError, RuntimeError) as error:
            raise invalid(file, f"{name}: {said(error)}") from error
    return places


def _without_values(file: Path) -> object:
    with open_file(file) as stream:  # torch would take the content from the ending of a path
        _check_byte_order(stream)
        stream.seek(0)
        return torch.load(stream, map_location="meta", weights_only=True)


def _check_byte_order(stream: BinaryIO) -> None:
    """Torch ends the process when it turns round the bytes of values that it does not have. Raises ValueError.

    Read as torch reads it, so that no archive can say one thing here and another there.
    """
    archive: Any = torch._C.PyTorchFileReader(stream)  # whose stub does not know all it can
    if archive.has_record(BYTE_ORDER) and archive.get_record(BYTE_ORDER) != sys.byteorder.encode():
        raise ValueError("its values have another byte order than this machine's")


def _state(content: object) -> dict[str, object]:
    """The state dict in `content`. Raises ValueError."""
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}")
    wrapped = (content.get(key) for key in WRAPPERS)
    state = next((inner for inner in wrapped if isinstance(inner, dict)), content)
    for name in state:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no name")
        check_text(name)
    return state


def _records(file: Path) -> dict[int, int]:
    """How many bytes each file in the archive has, by where they begin."""
    records: dict[int, int] = {}
    with zipfile.ZipFile(file) as archive, open_file(file) as stream:
        for entry in archive.infolist():
            stream.seek(entry.header_offset + LOCAL_HEADER_BYTES - 4)
            lengths = stream.read(4)
            fields = int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
            records[entry.header_offset + LOCAL_HEADER_BYTES + fields] = entry.file_size
    return records


def _place(value: object, records: Mapping[int, int]) -> Place:
    """Where the values of a tensor without values lie. Raises ValueError for what a checkpoint never has."""
    if not isinstance(value, Tensor):
        raise ValueError(f"a {type(value).__name__}, not a tensor")
    if value.layout is not torch.strided or value.device.type != "meta" or value.dtype not in NAMES:
        raise ValueError(f"a tensor of another kind: {value.layout}, {value.dtype}")
    storage = value.untyped_storage()
    start = getattr(storage, "_checkpoint_offset", 0)
    place = Place(value.dtype, tuple(value.shape), value.stride(), int(value.storage_offset()), start, storage.nbytes())
    if place.byte_count and records.get(start) != place.byte_count:
        raise ValueError(f"its {place.byte_count} bytes are not in the file")
    if max(_value_bytes(place), _end_of(place)) > place.byte_count:
        raise ValueError(f"its shape {list(place.shape)} takes more than its {place.byte_count} bytes")
    return place


def _value_bytes(place: Place) -> int:
    count = 1
    for size in place.shape:
        count *= size
    return count * place.dtype.itemsize


def _end_of(place: Place) -> int:
    """The end of the last value, in bytes of the storage."""
    if 0 in place.shape:
        return 0
    last = place.offset + sum((size - 1) * step for size, step in zip(place.shape, place.stride, strict=True))
    return (last + 1) * place.dtype.itemsize
