"""Reads files before they are needed, so that they are in the system's memory when they are. A thread of its own."""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

PIECE_BYTES = 16 << 20


class ReadAhead:
    """Reads `files` one after the other between `start` and `stop`, once.

    Nothing depends on it: a file that cannot be read is left to whoever needs it, and tells them why.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._files = tuple(files)
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)
        self.bytes_read = 0

    def start(self) -> None:
        """Begin, unless it has begun before or was stopped."""
        if self._thread.ident is None and not self._is_stopping.is_set():
            self._thread.start()

    def _read(self) -> None:
        piece = bytearray(PIECE_BYTES)
        for file in self._files:
            with contextlib.suppress(OSError), file.open("rb", buffering=0) as stream:
                while not self._is_stopping.is_set() and (count := stream.readinto(piece)):
                    self.bytes_read += count

    def stop(self) -> None:
        """Stop reading; what was read stays in the system's memory as long as there is room."""
        self._is_stopping.set()
        if self._thread.is_alive():
            self._thread.join()
