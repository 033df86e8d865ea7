"""Real ffmpeg: what was written is read back, and every way it can fail leaves nothing half done."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.cancel import CancelFlag, Cancelled
from engine.commands import GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.events import Stage
from engine.output.metadata import JobRecord, ffmetadata
from engine.output.video_writer import VideoFormat, VideoWriter, check_output, part_of
from tests.engine.video_reading import describe_stream, ffmpeg, read_frames, read_tag

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


def write(output: Path, frames: np.ndarray, video: VideoFormat = SMALL, tags: dict[str, str] | None = None) -> None:
    with VideoWriter(output, video, tags or {}, nothing) as writer:
        for frame in frames:
            writer.write(frame)


def ffmpeg_children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def assert_nothing_left(output: Path) -> None:
    assert not output.exists()
    assert not part_of(output).exists()
    assert not part_of(output).is_symlink()
    assert ffmpeg_children() == []
    assert all(thread.name != "video-writer" for thread in threading.enumerate())


@pytest.mark.parametrize("count", [1, 2, 40])
def test_frames_come_back_in_order_and_in_colour(tmp_path: Path, count: int) -> None:
    output, frames = tmp_path / "a b;=%d.mp4", patches(count)
    write(output, frames)
    back = read_frames(output, 64, 48)
    assert len(back) == count
    wanted = frames[..., 2::-1].astype(int)
    for y in (12, 36):
        for x in (16, 48):
            # Flat patches: only colour conversion and quantisation are left.
            assert np.abs(back[:, y, x].astype(int) - wanted[:, y, x]).max() <= 6
    assert not part_of(output).exists()
    assert ffmpeg_children() == []


def test_stream_is_what_players_expect(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    write(output, patches(20))
    line = describe_stream(output)
    assert "h264" in line
    assert "yuv420p(tv, bt709" in line
    assert "64x48" in line
    assert "16 fps" in line
    content = output.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat"), "the index must come first"


PROMPTS = [
    "a red ball",
    '一只红色的球; a=b #1 \\ "quoted" [x]\nsecond line\r\nthird\ttab\x00nul\u2028sep',
    "=;#\\" * 50,
    "长提示 " * 20_000,
    " leading and trailing ",
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_the_job_is_in_the_metadata(tmp_path: Path, prompt: str) -> None:
    output = tmp_path / "out.mp4"
    command = GenerateVideo(prompt, output, negative_prompt=prompt[:100])
    record = JobRecord(command, None, {"vae": "x=y;z"}, {Stage.SAMPLE: 1.23456}, {Stage.SAMPLE: 2**40})
    write(output, patches(2), tags={"comment": record.as_json()})
    comment = read_tag(output, "comment")
    assert comment is not None
    read = json.loads(comment)
    assert read["command"]["prompt"] == prompt
    assert read["models"] == {"vae": "x=y;z"}
    assert read["seconds"] == {"sample": 1.235}
    assert read["peak_bytes"] == {"sample": 2**40}


def test_several_tags_with_newlines_survive(tmp_path: Path) -> None:
    output, tags = tmp_path / "out.mp4", {"title": "two\nlines; a=b", "comment": "#\\ end"}
    write(output, patches(2), tags=tags)
    assert {name: read_tag(output, name) for name in tags} == tags
    with pytest.raises(ValueError, match="backslash"):
        ffmetadata({"comment": "end\\"})


def test_an_existing_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    output.write_bytes(b"old")
    with VideoWriter(output, SMALL, {}, nothing) as writer:
        for frame in patches(5):
            writer.write(frame)
        assert output.read_bytes() == b"old"
    assert len(read_frames(output, 64, 48)) == 5


def bad_codec(_: Path) -> VideoFormat:
    return VideoFormat(64, 48, 16, ("no_such_codec",))


def full_disk(output: Path) -> VideoFormat:
    part_of(output).symlink_to("/dev/full")
    return SMALL


@pytest.mark.parametrize(
    ("arrange", "words"), [(bad_codec, "Unknown encoder 'no_such_codec'"), (full_disk, "No space left on device")]
)
def test_failure_is_told_with_the_last_lines(
    tmp_path: Path, arrange: Callable[[Path], VideoFormat], words: str
) -> None:
    output = tmp_path / "out.mp4"
    video = arrange(output)
    with pytest.raises(EngineError) as caught:
        write(output, patches(300), video)
    assert caught.value.code is ErrorCode.VIDEO_WRITER_FAILED
    assert words in str(caught.value.details["last_lines"])
    assert_nothing_left(output)


def test_ffmpeg_killed_midway(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"

    def killed_after_three_frames() -> None:
        with VideoWriter(output, SMALL, {}, nothing) as writer:
            for t, frame in enumerate(patches(200)):
                writer.write(frame)
                if t == 3:
                    ffmpeg_children()[0].kill()

    with pytest.raises(EngineError, match="-9"):
        killed_after_three_frames()
    assert_nothing_left(output)


def test_ffmpeg_killed_while_it_finishes(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"

    def killed_at_the_end() -> None:
        with VideoWriter(output, SMALL, {}, nothing) as writer:
            writer.write(patches(1)[0])
            ffmpeg_children()[0].kill()

    with pytest.raises(EngineError, match="video_writer_failed"):
        killed_at_the_end()
    assert_nothing_left(output)


def test_ffmpeg_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: str(tmp_path / "no-ffmpeg"))
    with pytest.raises(EngineError, match="no-ffmpeg"):
        write(tmp_path / "out.mp4", patches(1))
    assert_nothing_left(tmp_path / "out.mp4")


def test_cancel_ends_a_slow_encoder_at_once(tmp_path: Path) -> None:
    """The slowest preset on large noise: the writer is waiting for ffmpeg when the cancel comes."""
    output, cancel, asked = tmp_path / "out.mp4", CancelFlag(), [0.0]
    video = VideoFormat(1280, 720, 16, ("libx264", "-preset", "placebo"))
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 4), np.uint8)

    def ask() -> None:
        asked[0] = time.monotonic()
        cancel.set()

    def write_forever() -> None:
        threading.Timer(1.0, ask).start()
        with VideoWriter(output, video, {}, cancel.raise_if_set) as writer:
            for _ in range(30):
                writer.write(frame)

    with pytest.raises(Cancelled):
        write_forever()
    assert time.monotonic() - asked[0] < 2  # the rest would take it minutes
    assert_nothing_left(output)


def test_frames_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    for frame in (np.zeros((48, 64, 3), np.uint8), np.zeros((64, 48, 4), np.uint8), np.zeros((48, 64, 4), np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            write(tmp_path / "out.mp4", frame[None])
    with pytest.raises(ValueError, match="even"):
        VideoFormat(63, 48, 16)
    assert_nothing_left(tmp_path / "out.mp4")


def test_output_that_cannot_be_written_is_found_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for output in (tmp_path, tmp_path / "file" / "out.mp4", Path("/proc/out.mp4"), tmp_path / ("n" * 300)):
        with pytest.raises(EngineError) as caught:
            check_output(output)
        assert caught.value.code is ErrorCode.OUTPUT_NOT_WRITABLE
        assert caught.value.details["reason"]
    check_output(tmp_path / "new" / "folder" / "out.mp4")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


def test_ffmpeg_is_really_called() -> None:
    assert ffmpeg("-version").returncode == 0
