"""Every way in which a video fails once it has begun: it is told with its reason, and nothing is left half done."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.cancel import CancelFlag, Cancelled
from engine.errors import EngineError, ErrorCode
from engine.output.finished_video import finish_video, part_of
from engine.output.video_writer import VideoFormat, VideoWriter
from tests.engine.small_disk import on_a_small_disk
from tests.engine.video_reading import read_frames
from tests.engine.video_writing import (
    SMALL,
    assert_nothing_left,
    assert_nothing_runs,
    ffmpeg_children,
    nothing,
    patches,
    stream_of,
    write,
)

ROOT = Path(__file__).resolve().parents[2]


def bad_codec(_: Path) -> VideoFormat:
    return VideoFormat(64, 48, 16, ("no_such_codec",))


def full_disk(output: Path) -> VideoFormat:
    part_of(output).symlink_to("/dev/full")
    return SMALL


DEV_FULL = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
FAILURES = [
    (bad_codec, "Unknown encoder 'no_such_codec'"),
    pytest.param(full_disk, "No space left on device", marks=DEV_FULL),
]


@pytest.mark.parametrize(("arrange", "words"), FAILURES)
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


WRITE_ON_A_FULL_DISK = """
import json, sys, tempfile
from pathlib import Path
from engine.errors import EngineError
from tests.engine.video_writing import noise, write

disk = Path(sys.argv[1])
assert Path(tempfile.gettempdir()) == disk  # chosen while there is room, as by a job that runs for hours
if sys.argv[2] == "full before":
    try:
        with (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
    except OSError:
        pass
try:
    write(disk / "out.mp4", noise(200))
except EngineError as error:
    left = sorted(file.name for file in disk.iterdir() if file.name != "filler")
    print(json.dumps([error.code, error.details["last_lines"], left]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
@pytest.mark.parametrize("when", ["full before", "filled by the video"])
def test_a_full_disk_is_told_even_when_temporary_files_are_on_it(tmp_path: Path, when: str) -> None:
    disk = tmp_path / "disk"
    arguments = ["env", f"TMPDIR={disk}", sys.executable, "-c", WRITE_ON_A_FULL_DISK, str(disk), when]
    command = [*on_a_small_disk(disk, "64k"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    code, last_lines, left = json.loads(done.stdout)
    assert code == "video_writer_failed"
    assert "No space left on device" in last_lines
    assert left == []


def test_a_fault_of_the_feeding_thread_is_no_shorter_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ffmpeg itself is content with the frames that it got, and ends with code 0."""
    handed_over = [0]

    def memory_runs_out(frame: np.ndarray) -> np.ndarray:
        handed_over[0] += 1
        if handed_over[0] == 4:
            raise MemoryError("no room for a frame")
        return frame

    monkeypatch.setattr("engine.output.video_writer.np.ascontiguousarray", memory_runs_out)
    with pytest.raises(EngineError, match="no room for a frame") as caught:
        write(tmp_path / "out.mp4", patches(6))
    assert caught.value.code is ErrorCode.VIDEO_WRITER_FAILED
    assert isinstance(caught.value.__cause__, MemoryError)
    assert_nothing_left(tmp_path / "out.mp4")


@pytest.mark.parametrize("frames", [1, 200])
def test_ffmpeg_killed_while_frames_come_and_while_it_finishes(tmp_path: Path, frames: int) -> None:
    output = tmp_path / "out.mp4"

    def killed_after_some() -> None:
        with VideoWriter(stream_of(output), SMALL) as writer:
            for frame in patches(frames):
                writer.write(frame)
            ffmpeg_children()[0].kill()
            for frame in patches(frames):
                writer.write(frame)  # whoever makes them goes on
            writer.finish(nothing)

    code = "" if sys.platform == "win32" else "-9"  # Windows knows no signals
    with pytest.raises(EngineError, match=f"ffmpeg ended with code {code}") as caught:
        killed_after_some()
    assert caught.value.code is ErrorCode.VIDEO_WRITER_FAILED
    assert_nothing_left(output)


def test_a_damaged_stream_is_told(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    stream_of(output).write_bytes(bytes(1000))
    with pytest.raises(EngineError, match="Invalid data") as caught:
        finish_video(stream_of(output), output, {}, nothing)
    assert caught.value.code is ErrorCode.VIDEO_WRITER_FAILED
    stream_of(output).unlink()
    assert_nothing_left(output)


def test_cancel_ends_a_slow_encoder_at_once(tmp_path: Path) -> None:
    """The slowest preset on large noise: ffmpeg is far from done when the cancel comes."""
    output, cancel, asked = tmp_path / "out.mp4", CancelFlag(), [0.0]
    video = VideoFormat(1280, 720, 16, ("libx264", "-preset", "placebo"))
    frame = np.random.default_rng(0).integers(0, 256, (720, 1280, 4), np.uint8)

    def ask() -> None:
        asked[0] = time.monotonic()
        cancel.set()

    def write_forever() -> None:
        threading.Timer(1.0, ask).start()
        with VideoWriter(stream_of(output), video) as writer:
            for _ in range(30):
                writer.write(frame)
            writer.finish(cancel.raise_if_set)

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


def test_a_video_that_cannot_have_its_name_is_kept_under_another(tmp_path: Path) -> None:
    """A folder takes the name meanwhile: the whole encode must not be lost to that."""
    output = tmp_path / "out.mp4"
    (tmp_path / "out (2).mp4").write_bytes(b"another")

    def name_is_taken() -> None:
        with VideoWriter(stream_of(output), SMALL) as writer:
            for frame in patches(5):
                writer.write(frame)
            writer.finish(nothing)
            output.mkdir()
            finish_video(writer.stream, output, {}, nothing)

    with pytest.raises(EngineError, match=r"kept as out \(3\)\.mp4") as caught:
        name_is_taken()
    assert caught.value.code is ErrorCode.OUTPUT_NOT_WRITABLE
    assert len(read_frames(tmp_path / "out (3).mp4", 64, 48)) == 5
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out (2).mp4", "out (3).mp4", "out.mp4"]
    assert_nothing_runs()
