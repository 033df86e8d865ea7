"""An ffmpeg process that reads clips: its pictures come through a pipe that a thread of this module empties.

Whoever waits for a picture waits on a queue, never on the process: one that hangs is noticed by nobody but the person,
and does not keep a cancel waiting. May be used from any one thread.
"""

import contextlib
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from engine.errors import EngineError, ErrorCode
from engine.output.ffmpeg import WINDOWS_FLAGS, find_ffmpeg
from engine.pictures.read import picture_invalid

POLL_SECONDS = 0.1
AHEAD = 2  # pictures that wait for whoever takes them
FAULT = re.compile(r"^(?:\[[^\]]*\] )*\[(?:error|fatal|panic)\] (.+)", re.MULTILINE)
MAGIC = b"P6\n"

OnWait = Callable[[], None]


class FfmpegReader:
    """`with FfmpegReader(file, arguments, on_wait) as reader: for picture in reader.pictures(): ...`.

    `arguments` are those of an ffmpeg that writes pictures in the format PPM to its output; each says its own size.
    """

    def __init__(self, file: Path, arguments: list[str], on_wait: OnWait) -> None:
        self._file = file
        self._arguments = arguments
        self._on_wait = on_wait

    def __enter__(self) -> Self:
        """Start ffmpeg. Raises VIDEO_WRITER_FAILED when there is none."""
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(AHEAD)
        self._is_left = threading.Event()
        try:
            self._process = subprocess.Popen(
                [find_ffmpeg(), "-nostdin", "-hide_banner", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                creationflags=WINDOWS_FLAGS,
                start_new_session=sys.platform != "win32",
            )
        except OSError as error:
            self._errors.close()
            raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=str(error)) from error
        self._thread = threading.Thread(target=self._empty, name="clip-reader", daemon=True)
        self._thread.start()
        return self

    def pictures(self) -> Iterator[np.ndarray]:
        """All pictures, uint8 [H, W, 3]. Raises PICTURE_INVALID when ffmpeg finds a fault, and what `on_wait` raises.

        `on_wait` is called for every picture, and ten times a second while there is none.
        """
        while (picture := self._next()) is not None:
            yield picture
        while self._process.poll() is None:
            self._on_wait()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_SECONDS)
        if self._process.returncode:
            raise picture_invalid(self._file, self._fault())

    def said(self) -> str:
        """What ffmpeg has said so far."""
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace").strip()

    def _fault(self) -> str:
        """The first fault that was found; the others mostly follow from it."""
        found = FAULT.search(self.said())
        return f"ffmpeg ended with code {self._process.returncode}" if found is None else found[1].rstrip(". ")

    def _next(self) -> np.ndarray | None:
        while True:
            self._on_wait()
            with contextlib.suppress(queue.Empty):
                return self._queue.get(timeout=POLL_SECONDS)

    def _empty(self) -> None:
        """The thread: pictures from the pipe into the queue, then the end mark."""
        stream = self._process.stdout
        assert stream is not None
        with stream:
            while (picture := read_ppm(stream)) is not None and self._hand_over(picture):
                pass
        self._hand_over(None)

    def _hand_over(self, picture: np.ndarray | None) -> bool:
        while not self._is_left.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(picture, timeout=POLL_SECONDS)
                return True
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_left.set()
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._errors.close()


def read_ppm(stream: IO[bytes]) -> np.ndarray | None:
    """The next picture [H, W, 3] of a stream of binary PPM with 8 bits a colour; None at its end, or in a cut one."""
    if stream.readline() != MAGIC:
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # the largest value, 255
    content = stream.read(width * height * 3)
    return np.frombuffer(content, np.uint8).reshape(height, width, 3) if len(content) == width * height * 3 else None
