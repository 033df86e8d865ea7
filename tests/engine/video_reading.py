"""Reading videos back with ffmpeg itself, for tests."""

import re
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np


def ffmpeg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", *arguments], capture_output=True, check=False
    )


def read_frames(video: Path, width: int, height: int) -> np.ndarray:
    """Every frame of `video` as RGB [T, H, W, 3] uint8."""
    done = ffmpeg("-loglevel", "error", "-i", str(video), "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def read_tag(video: Path, name: str) -> str | None:
    """The value of the container's tag `name`, unescaped from ffmpeg's metadata format."""
    text = ffmpeg("-loglevel", "error", "-i", str(video), "-f", "ffmetadata", "pipe:1").stdout.decode()
    found = re.search(rf"^{name}=((?:\\.|[^\\\n])*)$", text, re.MULTILINE | re.DOTALL)
    return None if found is None else re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)


def describe_stream(video: Path) -> str:
    """ffmpeg's own line about the video stream."""
    text = ffmpeg("-i", str(video)).stderr.decode()
    return next(line for line in text.splitlines() if "Video:" in line)
