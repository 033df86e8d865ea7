"""GGUF files as checkpoints: tensors mapped from the file, blocks as the bytes they are. Lives on the engine thread.

The file is mapped in windows, each when a tensor in it is first read and until the last such tensor is gone: a private
map of the whole would have the system set aside as much memory as the file is large, which Windows always does and
Linux refuses above what the machine has.
"""

import mmap
import weakref
from pathlib import Path

import torch
from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.gguf_fields import shown
from engine.weights.gguf_header import GgufHeader, GgufTensor, read_gguf_header
from engine.weights.gguf_types import QUANTIZED_TYPES, TYPES_BY_NAME
from engine.weights.header import invalid, open_file, said

PLAIN_TYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F64": torch.float64,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
WINDOW_BYTES = 1 << 28  # a multiple of what any system lets a map begin at


def open_gguf(file: Path) -> Checkpoint:
    """The tensors of a GGUF `file`; no value is read. Raises MODEL_INVALID as `read_gguf_header` does.

    Plain types are read in their own dtype and true shape, quantised ones as uint8 [..., bytes of a row]; reading one
    of any other type raises MODEL_INVALID.
    """
    header = read_gguf_header(file)
    return Checkpoint((file,), header.infos, header.metadata, _MappedTensors(file, header).read)


class _MappedTensors:
    """The values of a file's tensors, in memory that is private to the process and backed by the file."""

    def __init__(self, file: Path, header: GgufHeader) -> None:
        self._file = file
        self._header = header
        self._stops = _window_stops(header)
        self._windows: weakref.WeakValueDictionary[int, mmap.mmap] = weakref.WeakValueDictionary()

    def read(self, name: str) -> Tensor:
        tensor = self._header.tensors.get(name)
        if tensor is None:
            raise invalid(self._file, f"{shown(name)} is not in it")
        kind = tensor.info.dtype
        if kind in PLAIN_TYPES:
            return self._values(name, tensor, PLAIN_TYPES[kind]).reshape(tensor.info.shape)
        if kind in QUANTIZED_TYPES:
            return self._values(name, tensor, torch.uint8).reshape(_row_shape(tensor))
        raise invalid(self._file, f"{shown(name)} is stored as {kind}, which cannot be read")

    def _values(self, name: str, tensor: GgufTensor, dtype: torch.dtype) -> Tensor:
        number, offset = divmod(tensor.start, WINDOW_BYTES)
        try:
            window = self._window(number)
            return torch.frombuffer(window, dtype=dtype, count=tensor.info.byte_count // dtype.itemsize, offset=offset)
        except (OSError, ValueError) as error:
            raise invalid(self._file, f"{shown(name)} cannot be read: {said(error)}") from error

    def _window(self, number: int) -> mmap.mmap:
        """The bytes of all tensors that begin in this window, from where it begins."""
        window = self._windows.get(number)
        if window is None:
            window = self._map(number)
            self._windows[number] = window
        return window

    def _map(self, number: int) -> mmap.mmap:
        start = number * WINDOW_BYTES
        with open_file(self._file) as stream:
            size = stream.seek(0, 2)
            if size != self._header.file_bytes:
                raise ValueError(f"the file has changed from {self._header.file_bytes} to {size} bytes")
            return mmap.mmap(stream.fileno(), self._stops[number] - start, access=mmap.ACCESS_COPY, offset=start)


def _window_stops(header: GgufHeader) -> dict[int, int]:
    """Of each window in which tensors begin, where the last of them ends."""
    stops: dict[int, int] = {}
    for tensor in header.tensors.values():
        number = tensor.start // WINDOW_BYTES
        stops[number] = max(stops.get(number, 0), tensor.start + tensor.info.byte_count)
    return stops


def _row_shape(tensor: GgufTensor) -> tuple[int, ...]:
    """Shape in bytes of the stored rows of blocks."""
    stored = TYPES_BY_NAME[tensor.info.dtype]
    return *tensor.stored_shape[:-1], tensor.stored_shape[-1] // stored.values * stored.byte_count
