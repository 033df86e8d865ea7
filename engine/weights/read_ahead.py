"""Reads files before they are needed, so that they are in the system's memory when they are. A thread of its own."""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

PIECE_BYTES = 16 << 20


class ReadAhead:
    """`with ReadAhead(files):` reads them one after the other meanwhile, and stops when the block is left.

    Nothing depends on it: a file that cannot be read is left to whoever needs it, and tells them why.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _read(self) -> None:
        piece = bytearray(PIECE_BYTES)
        for file in self._files:
            with contextlib.suppress(OSError), file.open("rb", buffering=0) as stream:
                while not self._is_stopping.is_set() and stream.readinto(piece):
                    pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_stopping.set()
        self._thread.join()
