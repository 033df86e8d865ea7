"""Clips whose frames tell their own number, for tests."""

from pathlib import Path

import numpy as np

from engine.output.video_writer import VideoFormat
from tests.engine.video_reading import ffmpeg
from tests.engine.video_writing import write

WIDTH, HEIGHT = 64, 48
STEP = 3


def numbered(count: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Frames [T, H, W, 4] (B, G, R, x): the left half's grey is the frame's number, the right is black."""
    frames = np.zeros((count, height, width, 4), np.uint8)
    for number, frame in enumerate(frames):
        frame[:, : width // 2] = 20 + STEP * number
    return frames


def numbers_of(frames: np.ndarray) -> list[int]:
    """The numbers that frames [T, H, W, 3] show at their left edge."""
    return [round((float(frame[4:-4, 2:12].mean()) - 20) / STEP) for frame in frames]


def make_clip(file: Path, count: int, fps: int = 16, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """An MP4 as this program writes them."""
    write(file, numbered(count, width, height), VideoFormat(width, height, fps))
    return file


def converted(clip: Path, file: Path, *options: str) -> Path:
    """`clip` in another form."""
    done = ffmpeg("-loglevel", "error", "-y", "-i", str(clip), *options, str(file))
    assert done.returncode == 0, done.stderr
    return file
