"""Writing small videos through the real writer, and what must be left when that fails; for tests."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from engine.output.finished_video import finish_video, part_of
from engine.output.video_writer import VideoFormat, VideoWriter

SMALL = VideoFormat(64, 48, 16)


def nothing() -> None:
    """Nobody waits for anything."""


def patches(count: int, video: VideoFormat = SMALL) -> np.ndarray:
    """Frames [T, H, W, 4] of four flat colours whose brightness changes with time; the fourth byte is noise."""
    frames = np.zeros((count, video.height, video.width, 4), np.uint8)
    frames[..., 3] = np.random.default_rng(0).integers(0, 256, frames.shape[:3])
    half_h, half_w = video.height // 2, video.width // 2
    for t, frame in enumerate(frames):
        level = 60 + 180 * t // max(1, count)
        frame[:half_h, :half_w, :3] = (0, 0, level)  # red, in B, G, R order
        frame[:half_h, half_w:, :3] = (0, level, 0)
        frame[half_h:, :half_w, :3] = (level, 0, 0)
        frame[half_h:, half_w:, :3] = level
    return frames


def noise(count: int, video: VideoFormat = SMALL) -> np.ndarray:
    """Frames [T, H, W, 4] that compress badly: a few of them fill a small disk."""
    return np.random.default_rng(0).integers(0, 256, (count, video.height, video.width, 4), np.uint8)


def stream_of(output: Path) -> Path:
    return output.with_suffix(".stream")


def write(output: Path, frames: np.ndarray, video: VideoFormat = SMALL, tags: dict[str, str] | None = None) -> None:
    with VideoWriter(stream_of(output), video) as writer:
        for frame in frames:
            writer.write(frame)
        writer.finish(nothing)
        finish_video(writer.stream, output, tags or {}, nothing)


def until(happened: Callable[[], bool]) -> None:
    """Wait for what another thread or process does; half a minute is for ever."""
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ffmpeg_children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def assert_nothing_runs() -> None:
    assert ffmpeg_children() == []
    assert all(thread.name not in ("video-writer", "ffmpeg-listener") for thread in threading.enumerate())


def assert_nothing_left(output: Path) -> None:
    assert not output.exists()
    assert not part_of(output).exists()
    assert not part_of(output).is_symlink()
    assert not stream_of(output).exists()
    assert_nothing_runs()
