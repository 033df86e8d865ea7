"""A model's file mapped into memory: tensors are views of it, and only what is used is ever read. Engine thread.

The map is for reading only. One that could be written to would be charged as memory in full, 28 GB for a large
checkpoint, where such promises are kept account of (Windows; Linux with little memory). So a tensor of it must not be
written to: the system ends the process that tries.
"""

import mmap
import warnings
from pathlib import Path

import torch
from torch import Tensor

from engine.weights.header import invalid, open_file, said

# Dtypes of torch by the names of safetensors. For F6 there are none.
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "I16": torch.int16,
    "U16": torch.uint16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "F32": torch.float32,
    "C64": torch.complex64,
    "F64": torch.float64,
    "I64": torch.int64,
    "U64": torch.uint64,
}


class MappedFile:
    """Stays mapped while this object or a tensor of it lives, and is let go with the last of them."""

    def __init__(self, file: Path) -> None:
        """Raises MODEL_INVALID for a file that cannot be read or mapped."""
        self._file = file
        with open_file(file) as stream:
            self._stamp = self._current_stamp()
            try:
                self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError, OverflowError) as error:
                raise invalid(file, f"cannot be mapped: {said(error)}") from error

    def values(self, dtype: torch.dtype, start: int, byte_count: int) -> Tensor:
        """The values [byte_count / size of one] that begin at byte `start`, not to be written to.

        Raises MODEL_INVALID when the file was changed, cut or removed since it was mapped. One that is cut after this
        look, while its values are used, ends the process: the system has no other way to say it.
        """
        self._check_unchanged()
        if start + byte_count > len(self._map):
            raise invalid(self._file, f"cut short: {len(self._map)} of {start + byte_count} bytes")
        if not byte_count:
            return torch.empty(0, dtype=dtype)
        with warnings.catch_warnings():  # torch warns of what the class says: not to be written to
            warnings.simplefilter("ignore", UserWarning)
            stored = torch.frombuffer(self._map, dtype=torch.uint8, count=byte_count, offset=start)
        is_aligned = start % dtype.itemsize == 0
        return (stored if is_aligned else stored.clone()).view(dtype)

    def _check_unchanged(self) -> None:
        if self._current_stamp() != self._stamp:
            raise invalid(self._file, "changed while it was in use")

    def _current_stamp(self) -> tuple[int, int]:
        """Size and time; no file numbers, which some network drives give anew at every look."""
        try:
            status = self._file.stat()
        except OSError as error:
            raise invalid(self._file, f"gone while it was in use: {said(error)}") from error
        return status.st_size, status.st_mtime_ns
