"""A clip that is gone on with comes first in the MP4, read while it is written, and each frame once."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import EngineError, ErrorCode
from engine.output.video_writer import Before, VideoFormat, VideoWriter
from engine.pictures.clips import open_clip
from engine.pictures.fit import Target
from engine.pictures.prepend import bgrx_frames, frames_before
from engine.pictures.road import PictureRoad
from tests.engine.clip_files import HEIGHT, WIDTH, make_clip, numbered, numbers_of
from tests.engine.video_reading import read_frames
from tests.engine.video_writing import assert_nothing_runs, nothing

VIDEO = VideoFormat(WIDTH, HEIGHT, 16)
TARGET = Target((WIDTH, HEIGHT), 16, PictureRoad.FRAMES)
OVERLAP = 9


def written(stream: Path, video: VideoFormat, before: Before, new: np.ndarray) -> tuple[np.ndarray, int]:
    with VideoWriter(stream, video, before) as writer:
        for frame in new:
            writer.write(frame)
        writer.finish(nothing)
        assert writer.frames_written == writer.frames_in_all(len(new))
        return read_frames(stream, video.width, video.height), writer.frames_written


def test_the_old_clip_then_the_new_frames(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "old.mp4", 30), 16, nothing)
    before = frames_before(clip, TARGET, OVERLAP)
    new = numbered(30 - OVERLAP + 33)[30 - OVERLAP :]  # goes on counting; its first nine are the clip's last
    video, count = written(tmp_path / "s.mp4", VIDEO, before, new)
    assert count == len(video) == 30 + 33 - OVERLAP
    assert numbers_of(video) == list(range(54))
    assert_nothing_runs()


def test_a_clip_of_another_size_and_rate(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "old.mp4", 20, fps=8, width=96, height=40), 16, nothing)
    video, _ = written(tmp_path / "s.mp4", VIDEO, frames_before(clip, TARGET, 1), numbered(5))
    assert len(video) == 40 + 4
    assert numbers_of(video[:40]) == pytest.approx([n / 2 for n in range(40)], abs=0.5)
    assert numbers_of(video[40:]) == [1, 2, 3, 4]


def test_frames_are_as_the_writer_takes_them(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "old.mp4", 3), 16, nothing)
    frames = list(bgrx_frames(clip, TARGET, nothing))
    assert [frame.shape for frame in frames] == [(HEIGHT, WIDTH, 4)] * 3
    assert np.abs(np.stack(frames)[..., :3].astype(int) - numbered(3)[..., :3])[:, :, 2:28].max() <= 3
    assert all((frame[..., 3] == 255).all() for frame in frames)


def test_beginning_again_begins_with_the_clip(tmp_path: Path) -> None:
    clip = open_clip(make_clip(tmp_path / "old.mp4", 12), 16, nothing)
    with VideoWriter(tmp_path / "s.mp4", VIDEO, frames_before(clip, TARGET, 5)) as writer:
        for frame in numbered(7)[:3]:
            writer.write(frame)
        writer.start_again()
        for frame in numbered(7):
            writer.write(frame)
        writer.finish(nothing)
        assert numbers_of(read_frames(writer.stream, WIDTH, HEIGHT)) == [*range(12), 5, 6]


def test_a_clip_that_is_gone_says_so(tmp_path: Path) -> None:
    file = make_clip(tmp_path / "old.mp4", 12)
    before = frames_before(open_clip(file, 16, nothing), TARGET, 5)
    file.unlink()
    with pytest.raises(EngineError) as caught:
        written(tmp_path / "s.mp4", VIDEO, before, numbered(9))
    assert caught.value.code is ErrorCode.PICTURE_INVALID
    assert_nothing_runs()


def test_a_clip_that_hangs_does_not_hold_the_end(tmp_path: Path) -> None:
    def hanging(on_wait: Callable[[], None]) -> Iterator[np.ndarray]:
        yield numbered(1)[0]
        while True:
            on_wait()
            time.sleep(0.05)

    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    began = time.monotonic()
    with pytest.raises(Enough), VideoWriter(tmp_path / "s.mp4", VIDEO, Before(9, 1, hanging)) as writer:
        writer.finish(enough)
    assert time.monotonic() - began < 5
    assert_nothing_runs()


def test_frames_of_the_clip_wait_for_the_encoder(tmp_path: Path) -> None:
    """A clip of hours must not gather in memory: no frame is read before those before it are taken."""
    made = 0
    most = 0

    def many(on_wait: Callable[[], None]) -> Iterator[np.ndarray]:
        nonlocal made, most
        for _ in range(200):
            made += 1
            most = max(most, made - writer.frames_written)
            yield numbered(1)[0]

    writer = VideoWriter(tmp_path / "s.mp4", VIDEO, Before(200, 0, many))
    with writer:
        writer.finish(nothing)
        assert writer.frames_written == 200
    assert most == 1
