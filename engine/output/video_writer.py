"""Frames to H.264 MP4 through an ffmpeg process that a thread of this module feeds.

ffmpeg may sit on a frame for a third of a second (its look-ahead), so frames go through a short queue. The
file is `NAME.mp4.part` until ffmpeg has ended well and the bytes are on the disk.
"""

import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import imageio_ffmpeg
import numpy as np

from engine.errors import EngineError, ErrorCode
from engine.output.job_folder import disk_errors, flush_folder
from engine.output.metadata import ffmetadata

QUEUED_FRAMES = 8
POLL_SECONDS = 0.1
END_SECONDS = 5.0
LAST_LINES = 12
# CREATE_NO_WINDOW and CREATE_NEW_PROCESS_GROUP: no console flashes up, and Ctrl+C is ours to handle, not ffmpeg's.
WINDOWS_FLAGS = 0x0800_0000 | 0x0000_0200 if sys.platform == "win32" else 0


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """Size in pixels (both even: H.264 4:2:0 halves the colour), frames a second, and the encoder's options."""

    width: int
    height: int
    fps: int
    encoder: tuple[str, ...] = ("libx264", "-preset", "medium", "-crf", "16")

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 2:
            raise ValueError(f"4:2:0 video needs even sides, not {self.width}x{self.height}")


def part_of(output: Path) -> Path:
    """The name of `output` while it is not complete."""
    return output.with_name(output.name + ".part")


def check_output(output: Path) -> None:
    """Make the folder of `output` and see that a file can be written there; raises OUTPUT_NOT_WRITABLE."""
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise IsADirectoryError(0, "Is a directory")
        part = part_of(output)
        part.open("ab").close()
        part.unlink()


class VideoWriter:
    """Writes one MP4: `with VideoWriter(...) as writer: writer.write(frame)`.

    Leaving the block normally finishes the file; leaving it by an exception ends ffmpeg and removes the part.
    While it has to wait for ffmpeg it calls `on_wait` ten times a second, which may raise.
    """

    def __init__(self, output: Path, video: VideoFormat, tags: dict[str, str], on_wait: Callable[[], None]) -> None:
        self._output = output
        self._video = video
        self._tags = tags
        self._on_wait = on_wait
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(QUEUED_FRAMES)
        self._broken = threading.Event()

    def __enter__(self) -> Self:
        """Start ffmpeg. Raises VIDEO_WRITER_FAILED when it cannot be started."""
        self._resources = contextlib.ExitStack()
        self._errors: BinaryIO = self._resources.enter_context(tempfile.TemporaryFile())
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="tessera-")))
        tags = folder / "tags.txt"
        tags.write_text(ffmetadata(self._tags), "utf-8", "replace", "\n")
        try:
            self._process = self._start(tags)
        except OSError as error:
            self._resources.close()
            raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=str(error)) from error
        self._thread = threading.Thread(target=self._feed, name="video-writer", daemon=True)
        self._thread.start()
        return self

    def _start(self, tags: Path) -> subprocess.Popen[bytes]:
        command = ffmpeg_command(part_of(self._output), self._video, tags)
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            creationflags=WINDOWS_FLAGS,
            start_new_session=sys.platform != "win32",
        )

    def write(self, frame: np.ndarray) -> None:
        """Queue `frame` [H, W, 4] uint8 (B, G, R, unused); it must not change until it is written.

        Raises VIDEO_WRITER_FAILED when ffmpeg has ended meanwhile.
        """
        expected = (self._video.height, self._video.width, 4)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 {expected}, not {frame.dtype} {frame.shape}")
        self._put(frame)

    def _put(self, frame: np.ndarray | None) -> None:
        while not self._broken.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(frame, timeout=POLL_SECONDS)
                return
            self._on_wait()
        raise self._failure()

    def _feed(self) -> None:
        """The writer thread: frames from the queue into ffmpeg until the end mark."""
        pipe = self._process.stdin
        assert pipe is not None
        try:
            while (frame := self._queue.get()) is not None:
                pipe.write(np.ascontiguousarray(frame).data)
        except (OSError, ValueError):
            self._broken.set()
        finally:
            with contextlib.suppress(OSError):
                pipe.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except BaseException:
            self._abandon()
            raise
        else:
            if kind is not None:
                self._abandon()
        finally:
            self._resources.close()

    def _finish(self) -> None:
        """Let ffmpeg write the end of the file, then make it durable under its own name."""
        self._put(None)
        while self._thread.is_alive() or self._process.poll() is None:
            self._on_wait()
            self._thread.join(POLL_SECONDS)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_SECONDS)
        if self._process.returncode != 0 or self._broken.is_set():
            raise self._failure()
        part = part_of(self._output)
        with disk_errors(self._output):
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(self._output)
            flush_folder(self._output.parent)

    def _abandon(self) -> None:
        """End ffmpeg and the thread, and remove the part."""
        self._process.kill()
        self._process.wait()
        self._broken.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join()
        part_of(self._output).unlink(missing_ok=True)

    def _failure(self) -> EngineError:
        """The error that ffmpeg ended with: its last lines, or the code when it said nothing."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:]
        last_lines = "\n".join([*lines, f"ffmpeg ended with code {self._process.poll()}"])
        return EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=last_lines)


def ffmpeg_command(part: Path, video: VideoFormat, tags: Path) -> list[str]:
    """The command line: raw B, G, R, x frames on stdin to H.264 in BT.709, limited range, index in front."""
    bt709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
    return [
        imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-loglevel", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "bgr0", "-s", f"{video.width}x{video.height}", "-r", str(video.fps),
        "-i", "pipe:0",
        "-f", "ffmetadata", "-i", str(tags), "-map", "0:v", "-map_metadata", "1",
        "-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int",
        "-c:v", *video.encoder, "-pix_fmt", "yuv420p", *bt709, "-movflags", "+faststart", "-f", "mp4", f"file:{part}",
    ]  # fmt: skip
