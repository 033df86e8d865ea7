"""The fields of a GGUF file's header: numbers, texts and arrays at a place that moves through its bytes. No torch.

The bytes are mapped, not loaded, and no length or count of the file is believed before that many bytes are there.
"""

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.weights.header import GGUF_START, MAX_HEADER_BYTES, invalid, open_file, said

U32 = struct.Struct("<I")
U64 = struct.Struct("<Q")
NUMBERS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: U32,
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: U64,
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
INTEGERS = frozenset({0, 1, 2, 3, 4, 5, 10, 11})
TEXT, ARRAY = 8, 9
LONGEST_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ArrayField:
    """An array that was passed over: the number of its elements' type, how many there are, where the first begins."""

    kind: int
    count: int
    start: int


Value = int | float | bool | str | ArrayField


class Fields:
    """Reads one field after the other. Everything raises ValueError where the header's bytes end."""

    def __init__(self, data: mmap.mmap, file_bytes: int) -> None:
        self.file_bytes = file_bytes
        self.position = 0
        self._data = data

    def number(self, layout: struct.Struct) -> int | float | bool:
        """The number that is stored here."""
        return layout.unpack_from(self._data, self._pass(layout.size))[0]

    def count(self, layout: struct.Struct = U64) -> int:
        """The whole number without a sign that is stored here."""
        return int(self.number(layout))

    def text(self) -> str:
        """The text that is stored here; ValueError also where it is no UTF-8."""
        start = self._pass(self.count())
        return self._data[start : self.position].decode()

    def value(self, kind: int) -> Value:
        """A value whose type has the number `kind`; an array is passed over."""
        if kind == TEXT:
            return self.text()
        return self._array() if kind == ARRAY else self.number(_layout(kind))

    def numbers(self, field: ArrayField) -> tuple[int | float | bool, ...]:
        """The numbers of an array that was passed over."""
        layout = _layout(field.kind)
        return struct.unpack_from(f"<{field.count}{layout.format[-1]}", self._data, field.start)

    def texts(self, field: ArrayField) -> tuple[str, ...]:
        """The texts of an array that was passed over."""
        self.position = field.start
        return tuple(self.text() for _ in range(field.count))

    def _array(self) -> ArrayField:
        kind, count = self.count(U32), self.count()
        if kind == ARRAY:
            raise ValueError("an array of arrays")
        field = ArrayField(kind, count, self.position)
        if kind == TEXT:
            self._pass_texts(count)
        else:
            self._pass(count * _layout(kind).size)
        return field

    def _pass_texts(self, count: int) -> None:
        """A tokenizer's array has 256 thousand, which is why this loop calls nothing but what it must."""
        data, length_of, position = self._data, U64.unpack_from, self.position
        last = len(data) - U64.size
        for _ in range(count):
            if position > last:
                break
            position += U64.size + length_of(data, position)[0]
        else:
            self._pass(position - self.position)
            return
        self._pass(len(data))

    def _pass(self, byte_count: int) -> int:
        start, end = self.position, len(self._data)
        if byte_count > end - start:
            raise ValueError(f"its header is damaged, or cut short: it does not end within {end} bytes")
        self.position = start + byte_count
        return start


@contextlib.contextmanager
def open_fields(file: Path) -> Iterator[Fields]:
    """The fields of a GGUF `file` from behind its magic; within, ValueError becomes MODEL_INVALID, as on opening."""
    with open_file(file) as stream:
        try:
            if stream.read(len(GGUF_START)) != GGUF_START:
                raise ValueError("not a GGUF file")
            size = os.fstat(stream.fileno()).st_size
            with mmap.mmap(stream.fileno(), min(size, MAX_HEADER_BYTES), access=mmap.ACCESS_READ) as data:
                fields = Fields(data, size)
                fields.position = len(GGUF_START)
                yield fields
        except (OSError, ValueError) as error:
            raise invalid(file, said(error)) from error


def shown(name: str) -> str:
    """A name out of a file, short enough to be shown and without characters that cannot be."""
    short = name if len(name) <= LONGEST_SHOWN else f"{name[:LONGEST_SHOWN]}..."
    return short if short.isprintable() else ascii(short)


def _layout(kind: int) -> struct.Struct:
    if kind not in NUMBERS:
        raise ValueError(f"a value of the unknown type {kind}")
    return NUMBERS[kind]
