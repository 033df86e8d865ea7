"""GGUF files byte by byte, so that tests can write what the `gguf` package would not."""

import struct
from dataclasses import dataclass
from pathlib import Path

from engine.weights.gguf_fields import ARRAY, NUMBERS, TEXT

UINT8, UINT32, INT32, FLOAT32, BOOL, UINT64, FLOAT64 = 0, 4, 5, 6, 7, 10, 12
F32, F16, Q8_0, BF16 = 0, 1, 8, 30


def text(content: str | bytes) -> bytes:
    encoded = content.encode() if isinstance(content, str) else content
    return struct.pack("<Q", len(encoded)) + encoded


def number(key: str, kind: int, value: float) -> bytes:
    """An entry of metadata: a number of the type `kind`."""
    return text(key) + struct.pack("<I", kind) + NUMBERS[kind].pack(value)


def words(key: str | bytes, value: str | bytes) -> bytes:
    return text(key) + struct.pack("<I", TEXT) + text(value)


def array(key: str, kind: int, count: int, content: bytes) -> bytes:
    return text(key) + struct.pack("<IIQ", ARRAY, kind, count) + content


def tensor(name: str | bytes, dims: tuple[int, ...], kind: int = F32, start: int = 0) -> bytes:
    """An entry of the tensor list; `dims` as the file names them, innermost first."""
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, start)


@dataclass(frozen=True, slots=True)
class RawGguf:
    """The parts of a file; counts that are not given are the true ones."""

    values: tuple[bytes, ...] = ()
    tensors: tuple[bytes, ...] = ()
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    value_count: int | None = None
    alignment: int = 32

    def header(self) -> bytes:
        """Everything up to the first tensor's bytes."""
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        value_count = len(self.values) if self.value_count is None else self.value_count
        start = self.magic + struct.pack("<IQQ", self.version, tensor_count, value_count)
        header = start + b"".join(self.values) + b"".join(self.tensors)
        return header + bytes(-len(header) % self.alignment)

    def write(self, file: Path) -> Path:
        file.write_bytes(self.header() + self.data)
        return file
