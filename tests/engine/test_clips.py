"""Clips through real ffmpeg: any form, any run of frames, any damage, and a process that hangs."""

import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from engine.cancel import Cancelled
from engine.errors import EngineError, ErrorCode
from engine.pictures.clips import ClipFacts, first_frame, frames_of, open_clip
from tests.engine.clip_files import HEIGHT, STEP, WIDTH, converted, make_clip, numbered, numbers_of
from tests.engine.video_reading import ffmpeg
from tests.engine.video_writing import ffmpeg_children, nothing


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "a b;=%d.mp4", 40)


def frames(clip: ClipFacts, start: int = 0, stop: int | None = None) -> np.ndarray:
    with frames_of(clip, nothing, start, stop) as found:
        return np.stack(list(found))


def reason(file: Path) -> str:
    with pytest.raises(EngineError) as caught:
        open_clip(file, 16, nothing)
    assert caught.value.code is ErrorCode.PICTURE_INVALID
    assert ffmpeg_children() == []
    return str(caught.value.details["reason"])


def test_a_clip_of_this_program_comes_back(clip: Path) -> None:
    facts = open_clip(clip, 16, nothing)
    assert facts == ClipFacts(clip, WIDTH, HEIGHT, 40, 16, 16.0)
    back = frames(facts)
    assert back.shape == (40, HEIGHT, WIDTH, 3)
    assert np.abs(back[:, :, 2:28].astype(int) - numbered(40)[:, :, 2:28, 2::-1]).max() <= STEP
    assert ffmpeg_children() == []


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (31, 40), (39, None), (17, 23)])
def test_any_run_of_frames(clip: Path, start: int, stop: int | None) -> None:
    facts = open_clip(clip, 16, nothing)
    assert numbers_of(frames(facts, start, stop)) == list(range(start, stop or 40))


def test_another_rate_takes_the_nearest_frame(clip: Path) -> None:
    half, double = open_clip(clip, 8, nothing), open_clip(clip, 32, nothing)
    assert (half.frames, double.frames, half.stated_fps) == (20, 80, 16.0)
    shown = numbers_of(frames(half))
    assert all(abs(number - 2 * place) <= 1 for place, number in enumerate(shown))
    assert all(abs(number - place / 2) <= 0.5 for place, number in enumerate(numbers_of(frames(double))))
    assert numbers_of(frames(half, 15)) == shown[15:]


def test_a_rate_that_is_not_constant(clip: Path, tmp_path: Path) -> None:
    slow = ("-vf", "setpts='if(lt(N,20),N,20+2*(N-20))/16/TB'", "-fps_mode", "vfr", "-video_track_timescale", "1600")
    facts = open_clip(converted(clip, tmp_path / "slow.mp4", *slow), 16, nothing)
    shown = numbers_of(frames(facts))
    assert shown[:20] == list(range(20))
    assert shown[20:] == pytest.approx([20 + place / 2 for place in range(len(shown) - 20)], abs=1)
    assert len(shown) == facts.frames >= 59


@pytest.mark.parametrize("kind", ["webm", "mkv", "gif", "avi", "mov", "ts"])
def test_other_files(clip: Path, tmp_path: Path, kind: str) -> None:
    options = ("-q:v", "2") if kind == "avi" else ()
    facts = open_clip(converted(clip, tmp_path / f"a.{kind}", *options), 16, nothing)
    assert (facts.width, facts.height) == (WIDTH, HEIGHT)
    assert abs(facts.frames - 40) <= 1
    assert numbers_of(frames(facts, 30, 35)) == pytest.approx(list(range(30, 35)), abs=1)


def test_a_telephone_held_upright(clip: Path, tmp_path: Path) -> None:
    turned = tmp_path / "turned.mp4"
    assert ffmpeg("-display_rotation", "90", "-i", str(clip), "-c", "copy", str(turned)).returncode == 0
    facts = open_clip(turned, 16, nothing)
    assert (facts.width, facts.height) == (HEIGHT, WIDTH)
    upright = frames(open_clip(clip, 16, nothing), 30, 31)[0]
    assert np.abs(frames(facts, 30, 31)[0].astype(int) - np.rot90(upright, 1)).max() <= 2


def test_pictures_in_it_that_are_no_clip(tmp_path: Path) -> None:
    song = tmp_path / "song.mkv"
    assert ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", str(song)).returncode == 0
    assert reason(song)


def test_what_is_no_clip(tmp_path: Path) -> None:
    for name, content in {"empty.mp4": b"", "words.mp4": b"hello", "noise.webm": bytes(range(256)) * 99}.items():
        file = tmp_path / name
        file.write_bytes(content)
        assert reason(file)
    for name in ("nothing.mp4", "a\0b.mp4"):
        assert reason(tmp_path / name) == "there is no such file"
    assert "no file" in reason(tmp_path)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "bmp", "tiff"])
def test_a_still_picture_is_called_one(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "picture.mp4"
    Image.new("RGB", (32, 16)).save(file, kind)
    assert reason(file) == "it is a picture, not a clip"
    with pytest.raises(EngineError, match="a picture, not a clip"):
        first_frame(file)


def test_a_moving_png_is_a_clip(clip: Path, tmp_path: Path) -> None:
    moving = converted(clip, tmp_path / "a.apng", "-frames:v", "7")
    assert open_clip(moving, 16, nothing).frames == 7


def test_lists_of_other_files_are_not_followed(clip: Path, tmp_path: Path) -> None:
    lists = {
        "a.m3u8": f"#EXTM3U\n#EXTINF:1,\n{clip}\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{clip}'\n",
    }
    for name, content in lists.items():
        file = tmp_path / name
        file.write_text(content)
        assert reason(file)


def test_a_cut_or_damaged_clip_is_refused(clip: Path, tmp_path: Path) -> None:
    whole, damaged = clip.read_bytes(), bytearray(clip.read_bytes())
    file = tmp_path / "damaged.mp4"
    for length in (100, len(whole) // 2, len(whole) - 40):
        file.write_bytes(whole[:length])
        assert reason(file)
    start = whole.index(b"mdat") + 700
    for place in range(start, len(whole), 41):
        damaged[place] ^= 0x5A
    file.write_bytes(damaged)
    assert reason(file)


def test_a_clip_that_has_changed_meanwhile(clip: Path) -> None:
    facts = ClipFacts(clip, WIDTH, HEIGHT, 45, 16, 16.0)
    with pytest.raises(EngineError, match="has changed"):
        frames(facts, 30)


def stopping_after(calls: int) -> Callable[[], None]:
    counted = count()

    def check() -> None:
        if next(counted) >= calls:
            raise Cancelled

    return check


@pytest.mark.parametrize("calls", [0, 1, 7, 30])
def test_it_can_be_stopped_between_any_two_frames(clip: Path, calls: int) -> None:
    facts = open_clip(clip, 16, nothing)
    with pytest.raises(Cancelled), frames_of(facts, stopping_after(calls)) as found:
        list(found)
    assert ffmpeg_children() == []


def test_frames_that_nobody_takes_any_more(clip: Path) -> None:
    with frames_of(open_clip(clip, 16, nothing), nothing) as found:
        next(found)
    assert ffmpeg_children() == []


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_a_process_that_hangs_does_not_hold_a_cancel(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg-that-hangs"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    began = time.monotonic()
    with pytest.raises(Cancelled):
        open_clip(clip, 16, stopping_after(3))
    assert time.monotonic() - began < 5
    assert not [child for child in psutil.Process().children() if "sleep" in child.name()]


def test_a_long_clip_is_never_in_memory(tmp_path: Path) -> None:
    """600 frames of 1280x720 are 1.6 GB of pixels."""
    file = tmp_path / "long.mp4"
    source = ("-f", "lavfi", "-i", "color=red:size=1280x720:rate=16:duration=37.5")
    assert ffmpeg(*source, "-preset", "ultrafast", str(file)).returncode == 0
    before = psutil.Process().memory_info().rss
    facts = open_clip(file, 16, nothing)
    assert facts.frames == 600
    most = 0
    with frames_of(facts, nothing, 560) as found:
        for frame in found:
            most = max(most, psutil.Process().memory_info().rss - before)
            assert frame.shape == (720, 1280, 3)
    assert most < 100e6
