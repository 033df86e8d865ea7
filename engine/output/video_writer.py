"""Frames to H.264 through an ffmpeg process that a thread of this module feeds while frames are still being made.

What comes out is a stream without tags: what a job took is known only when its last frame is. `finished_video` makes
the video of it.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engine.errors import EngineError, ErrorCode
from engine.output.ffmpeg import FfmpegProcess, find_ffmpeg

POLL_SECONDS = 0.1


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


@dataclass(frozen=True, slots=True)
class Before:
    """Frames that come before those that are written: `count` of them, uint8 [H, W, 4], one by one.

    The first `overlap` frames that are written are among them already and are left out. `read` makes them anew each
    time, on the writer's thread; it is given a function to call ten times a second, and leaves with what that raises.
    """

    count: int
    overlap: int
    read: Callable[[Callable[[], None]], Iterator[np.ndarray]]


class VideoWriter:
    """Encodes one clip: `with VideoWriter(...) as writer: writer.write(frame) ...; writer.finish(...)`.

    The file `stream` is whole once `finish` has returned, and gone when the block is left.
    """

    def __init__(self, stream: Path, video: VideoFormat, before: Before | None = None) -> None:
        self.stream = stream
        self._video = video
        self._before = before

    def __enter__(self) -> Self:
        """Start ffmpeg. Raises VIDEO_WRITER_FAILED when it cannot be started."""
        self._start()
        return self

    def _start(self) -> None:
        self._queue: queue.SimpleQueue[np.ndarray | None] = queue.SimpleQueue()
        self._is_complete = False
        self._fault: Exception | None = None
        self.frames_written = 0  # that ffmpeg has taken
        self._handed_over = 0
        self._is_stopping = threading.Event()
        try:
            self._ffmpeg = FfmpegProcess(ffmpeg_command(self.stream, self._video))
        except OSError as error:
            raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=str(error)) from error
        self._thread = threading.Thread(target=self._feed, name="video-writer", daemon=True)
        self._thread.start()

    def frames_in_all(self, frames: int) -> int:
        """Frames of the video when `frames` have been written."""
        return frames if self._before is None else self._before.count + max(0, frames - self._before.overlap)

    def write(self, frame: np.ndarray) -> None:
        """Hand over `frame` [H, W, 4] uint8 (B, G, R, unused), which must not change any more. Returns at once.

        When ffmpeg has failed meanwhile, `finish` says so: whoever makes frames should not lose them to that.
        """
        expected = (self._video.height, self._video.width, 4)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 {expected}, not {frame.dtype} {frame.shape}")
        self._handed_over += 1
        if self._before is None or self._handed_over > self._before.overlap:
            self._queue.put(frame)

    def finish(self, on_wait: Callable[[], None]) -> None:
        """Let ffmpeg take what is left and write the end of the stream.

        `on_wait` is called ten times a second and may raise. Raises VIDEO_WRITER_FAILED, and PICTURE_INVALID for a clip
        whose frames come before and cannot be read.
        """
        self._queue.put(None)
        while self._thread.is_alive() or not self._ffmpeg.has_ended(POLL_SECONDS):
            on_wait()
            self._thread.join(POLL_SECONDS)
        on_wait()
        if isinstance(self._fault, EngineError):
            raise self._fault
        if not (self._is_complete and self._ffmpeg.has_succeeded):
            raise self._failure() from self._fault

    def start_again(self) -> None:
        """Forget all frames and begin anew. Raises VIDEO_WRITER_FAILED when ffmpeg cannot be started."""
        self._stop()
        self._start()

    def _feed(self) -> None:
        """The writer thread: frames from the queue into ffmpeg until the end mark.

        ffmpeg takes any end of its input for the end of the video, so only the mark tells that no frame is missing.
        """
        try:
            with self._ffmpeg.stdin as pipe, contextlib.closing(self._frames()) as frames:
                for frame in frames:
                    pipe.write(np.ascontiguousarray(frame).data)
                    self.frames_written += 1
            self._is_complete = True
        except OSError:
            pass  # ffmpeg has ended; its last words tell why
        except Exception as error:
            self._fault = error

    def _frames(self) -> Generator[np.ndarray, None, None]:
        if self._before is not None:
            yield from self._before.read(self._leave_if_stopping)
        while (frame := self._queue.get()) is not None:
            yield frame

    def _leave_if_stopping(self) -> None:
        if self._is_stopping.is_set():
            raise InterruptedError  # as when ffmpeg ends: an OSError that nobody needs to hear of

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        with contextlib.suppress(OSError):  # what is told is why the video ended, not what is left of it
            self.stream.unlink()

    def _stop(self) -> None:
        self._is_stopping.set()
        self._ffmpeg.end()
        self._queue.put(None)
        self._thread.join()

    def _failure(self) -> EngineError:
        """What ffmpeg ended with, and before it the fault of this program, if that is the reason."""
        words = self._ffmpeg.last_words()
        if self._fault is not None:
            words = f"{self._fault!r}\n{words}"
        return EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=words)


def ffmpeg_command(stream: Path, video: VideoFormat) -> list[str]:
    """The command line: raw B, G, R, x frames on stdin to H.264 in BT.709, limited range."""
    bt709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
    return [
        find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "bgr0", "-s", f"{video.width}x{video.height}", "-r", str(video.fps),
        "-i", "pipe:0",
        "-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int",
        "-c:v", *video.encoder, "-pix_fmt", "yuv420p", *bt709, "-f", "mp4", f"file:{stream}",
    ]  # fmt: skip
