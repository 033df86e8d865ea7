"""Clips as frames at the rate of a video: what there is of them, and any run of them, one by one.

Frames are upright. A clip of another rate, or of none that is constant, gives every moment of the video the frame
nearest to it. May be used from any thread.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.pictures.ffmpeg_reader import FfmpegReader, OnWait
from engine.pictures.read import LARGEST_PIXELS, check_is_file, is_still, picture_invalid

# Nothing of a network, and no lists of other files.
DEMUXERS = "mov,matroska,avi,gif,apng,mpegts,mpeg,flv,ogg,asf,mxf,dv,m4v,h264,hevc"
CAREFUL = ("-xerror", "-protocol_whitelist", "file", "-format_whitelist", DEMUXERS, "-max_pixels", str(LARGEST_PIXELS))
EXACT_COLOURS = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24"
SMALL = "scale=2:2:flags=neighbor,format=rgb24"  # for who only counts
AS_PPM = ("-c:v", "ppm", "-f", "image2pipe", "pipe:1")
STATED_RATE = re.compile(r"Video: .*?(\d+(?:\.\d+)?) fps")


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """A clip as it is shown: `frames` of them at `fps` frames a second; `stated_fps` is what the file says itself."""

    file: Path
    width: int
    height: int
    frames: int
    fps: int
    stated_fps: float | None


def first_frame(file: Path) -> np.ndarray:
    """The first frame of `file`, uint8 [H, W, 3]. Raises PICTURE_INVALID."""
    with _reader(file, [EXACT_COLOURS], lambda: None, "-frames:v", "1") as reader:
        first = next(reader.pictures(), None)
    if first is None:
        raise picture_invalid(file, "there is no frame in it")
    return first


def open_clip(file: Path, fps: int, on_wait: OnWait) -> ClipFacts:
    """What there is in `file` for a video of `fps` frames a second. All of it is decoded once.

    `on_wait` is called ten times a second or more and may raise. Raises PICTURE_INVALID.
    """
    height, width, stated_fps = _look(file, on_wait)
    with _reader(file, [f"fps={fps}", SMALL], on_wait) as reader:
        frames = sum(1 for _ in reader.pictures())
    if not frames:
        raise picture_invalid(file, "there is no frame in it")
    return ClipFacts(file, width, height, frames, fps, stated_fps)


@contextlib.contextmanager
def frames_of(
    clip: ClipFacts, on_wait: OnWait, start: int = 0, stop: int | None = None
) -> Iterator[Iterator[np.ndarray]]:
    """The frames [start, stop) of `clip` at its `fps`, uint8 [H, W, 3]: `with frames_of(...) as frames:`.

    Never more than a few are in memory. Raises PICTURE_INVALID, also when there are fewer, and what `on_wait` raises.
    """
    wanted = (clip.frames if stop is None else stop) - start
    run = f"trim=start_frame={start}:end_frame={start + wanted}"
    with _reader(clip.file, [f"fps={clip.fps}", run, EXACT_COLOURS], on_wait) as reader:
        yield _so_many(reader.pictures(), wanted, clip.file)


def _so_many(pictures: Iterator[np.ndarray], wanted: int, file: Path) -> Iterator[np.ndarray]:
    count = 0
    for picture in pictures:
        count += 1
        yield picture
    if count != wanted:
        raise picture_invalid(file, f"it has changed: {count} frames are there of {wanted}")


def _look(file: Path, on_wait: OnWait) -> tuple[int, int, float | None]:
    """Rows and columns of the first frame, and the rate that the file states."""
    with _reader(file, [EXACT_COLOURS], on_wait, "-frames:v", "1", loglevel="info") as reader:
        first = next(reader.pictures(), None)
        if first is None:
            raise picture_invalid(file, "there is no frame in it")
        rate = STATED_RATE.search(reader.said())
    return first.shape[0], first.shape[1], None if rate is None else float(rate[1])


def _reader(file: Path, filters: list[str], on_wait: OnWait, *more: str, loglevel: str = "error") -> FfmpegReader:
    check_is_file(file)
    if is_still(file):
        raise picture_invalid(file, "it is a picture, not a clip")
    source = ("-loglevel", f"level+{loglevel}", "-nostats", *CAREFUL, "-i", f"file:{file}", "-map", "0:V:0")
    shown = ("-vf", ",".join(filters), "-fps_mode", "passthrough")
    return FfmpegReader(file, [*source, *shown, *more, *AS_PPM], on_wait)
