"""Frames to H.264 MP4 through an ffmpeg process that a thread of this module feeds.

ffmpeg may sit on a frame for a third of a second (its look-ahead), so frames go through a short queue. The
file is `NAME.mp4.part` until ffmpeg has ended well and the bytes are on the disk.
"""

import contextlib
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from engine.errors import EngineError, ErrorCode
from engine.output.durable import disk_errors, put_in_place
from engine.output.ffmpeg import FfmpegProcess, find_ffmpeg
from engine.output.metadata import ffmetadata

QUEUED_FRAMES = 8
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


def part_of(output: Path) -> Path:
    """The name of `output` while it is not complete."""
    return output.with_name(output.name + ".part")


def check_output(output: Path) -> None:
    """See that there is an ffmpeg, make the folder of `output` and see that a file can be written there.

    Raises VIDEO_WRITER_FAILED and OUTPUT_NOT_WRITABLE.
    """
    find_ffmpeg()
    with disk_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise IsADirectoryError(0, "Is a directory")
        if output.exists():
            # One that must not be written, or that a player on Windows locks, is better found now than after hours.
            output.open("rb+").close()
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
        self._is_complete = False
        self._fault: Exception | None = None

    def __enter__(self) -> Self:
        """Start ffmpeg. Raises VIDEO_WRITER_FAILED when it cannot be started."""
        with contextlib.ExitStack() as resources:
            try:
                self._ffmpeg = self._start(resources)
            except OSError as error:
                raise EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=str(error)) from error
            self._thread = threading.Thread(target=self._feed, name="video-writer", daemon=True)
            self._thread.start()
            self._resources = resources.pop_all()
        return self

    def _start(self, resources: contextlib.ExitStack) -> FfmpegProcess:
        temporary = tempfile.TemporaryDirectory(prefix="tessera-", ignore_cleanup_errors=True)
        tags = Path(resources.enter_context(temporary)) / "tags.txt"
        tags.write_text(ffmetadata(self._tags), "utf-8", "replace", "\n")
        ffmpeg = FfmpegProcess(ffmpeg_command(part_of(self._output), self._video, tags))
        resources.callback(ffmpeg.end)
        return ffmpeg

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
        raise self._failure() from self._fault

    def _feed(self) -> None:
        """The writer thread: frames from the queue into ffmpeg until the end mark.

        ffmpeg takes any end of its input for the end of the video, so only the mark tells that no frame is missing.
        """
        try:
            with self._ffmpeg.stdin as pipe:
                while (frame := self._queue.get()) is not None:
                    pipe.write(np.ascontiguousarray(frame).data)
            self._is_complete = True
        except OSError:
            pass  # ffmpeg has ended; its last words tell why
        except Exception as error:
            self._fault = error
        finally:
            if not self._is_complete:
                self._broken.set()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._resources:
            if kind is not None:
                self._abandon()
                return
            try:
                self._finish()
            except BaseException:
                self._abandon()
                raise
        put_in_place(part_of(self._output), self._output)

    def _finish(self) -> None:
        """Let ffmpeg write the end of the file."""
        self._put(None)
        while self._thread.is_alive() or not self._ffmpeg.has_ended(POLL_SECONDS):
            self._on_wait()
            self._thread.join(POLL_SECONDS)
        if not (self._is_complete and self._ffmpeg.has_succeeded):
            raise self._failure() from self._fault

    def _abandon(self) -> None:
        """End ffmpeg and the thread, and remove the part."""
        self._ffmpeg.end()
        self._broken.set()
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join()
        with contextlib.suppress(OSError):  # what is told is why the video ended, not what is left of it
            part_of(self._output).unlink()

    def _failure(self) -> EngineError:
        """What ffmpeg ended with, and before it the fault of this program, if that is the reason."""
        words = self._ffmpeg.last_words()
        if self._fault is not None:
            words = f"{self._fault!r}\n{words}"
        return EngineError(ErrorCode.VIDEO_WRITER_FAILED, last_lines=words)


def ffmpeg_command(part: Path, video: VideoFormat, tags: Path) -> list[str]:
    """The command line: raw B, G, R, x frames on stdin to H.264 in BT.709, limited range, index in front."""
    bt709 = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
    return [
        find_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y",
        "-f", "rawvideo", "-pix_fmt", "bgr0", "-s", f"{video.width}x{video.height}", "-r", str(video.fps),
        "-i", "pipe:0",
        "-f", "ffmetadata", "-i", str(tags), "-map", "0:v", "-map_metadata", "1",
        "-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int",
        "-c:v", *video.encoder, "-pix_fmt", "yuv420p", *bt709, "-movflags", "+faststart", "-f", "mp4", f"file:{part}",
    ]  # fmt: skip
