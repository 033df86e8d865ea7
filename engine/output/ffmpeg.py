"""The ffmpeg program: where it is, and a running one with the last lines that it said."""

import contextlib
import shutil
import subprocess
import sys
import threading
from collections import deque
from typing import IO

import imageio_ffmpeg

from engine.errors import EngineError, ErrorCode

LAST_LINES = 12
END_SECONDS = 5.0
# CREATE_NO_WINDOW and CREATE_NEW_PROCESS_GROUP: no console flashes up, and Ctrl+C is ours to handle, not ffmpeg's.
WINDOWS_FLAGS = 0x0800_0000 | 0x0000_0200 if sys.platform == "win32" else 0


def find_ffmpeg() -> str:
    """The program to call. Raises VIDEO_WRITER_FAILED when there is none."""
    try:
        program: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=str(error)) from error
    # The environment variable IMAGEIO_FFMPEG_EXE is handed on without a look at it.
    if shutil.which(program) is None:
        raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=f"{program}: no such program")
    return program


class FfmpegProcess:
    """A running ffmpeg that reads `stdin`.

    What it says goes through a pipe, not into a file: on a full disk a file would lose the very reason. A thread
    empties the pipe, since ffmpeg would stand still before a full one.
    """

    def __init__(self, command: list[str]) -> None:
        """Start `command`. Raises OSError when that is not possible."""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            creationflags=WINDOWS_FLAGS,
            start_new_session=sys.platform != "win32",
        )
        self._lines: deque[str] = deque(maxlen=LAST_LINES)
        self._listener = threading.Thread(target=self._listen, name="ffmpeg-listener", daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        stream = self._process.stderr
        assert stream is not None
        with stream:
            for line in stream:
                self._lines.append(line.decode("utf-8", "replace").rstrip())

    @property
    def stdin(self) -> IO[bytes]:
        """Where the frames go."""
        assert self._process.stdin is not None
        return self._process.stdin

    def has_ended(self, timeout: float) -> bool:
        """Whether it has ended, or ends within `timeout` seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self._process.returncode is not None

    @property
    def has_succeeded(self) -> bool:
        """Whether it has ended and was content."""
        return self._process.returncode == 0

    def last_words(self) -> str:
        """The last lines of an ffmpeg that is ending, with its exit code."""
        if self.has_ended(END_SECONDS):
            self._listener.join(END_SECONDS)
        return "\n".join([*self._lines, f"ffmpeg ended with code {self._process.returncode}"])

    def end(self) -> None:
        """Make sure that it no longer runs; what it has not written yet is lost."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
