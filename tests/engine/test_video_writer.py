"""Real ffmpeg: what was written is read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from engine.commands import GenerateVideo
from engine.events import Stage
from engine.output.finished_video import finish_video, part_of
from engine.output.metadata import JobRecord, ffmetadata
from engine.output.video_writer import VideoWriter
from tests.engine.video_reading import describe_stream, ffmpeg, read_frames, read_tag
from tests.engine.video_writing import (
    SMALL,
    assert_nothing_left,
    ffmpeg_children,
    nothing,
    patches,
    stream_of,
    until,
    write,
)


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
    record = JobRecord(command, None, {"vae": "x=y;z"}, {Stage.SAMPLE: 1.23456}, {}, {}, {Stage.SAMPLE: 2**40})
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
    with VideoWriter(stream_of(output), SMALL) as writer:
        for frame in patches(5):
            writer.write(frame)
        writer.finish(nothing)
        assert output.read_bytes() == b"old"
        finish_video(writer.stream, output, {}, nothing)
    assert len(read_frames(output, 64, 48)) == 5
    assert not stream_of(output).exists()


def test_frames_are_encoded_while_others_are_still_to_come(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "stream", SMALL) as writer:
        for frame in patches(40):
            writer.write(frame)
        until(lambda: writer.frames_written == 40)
        writer.finish(nothing)
    assert_nothing_left(tmp_path / "stream")


def test_a_writer_that_starts_again_knows_nothing_of_the_frames_before(tmp_path: Path) -> None:
    output = tmp_path / "out.mp4"
    with VideoWriter(stream_of(output), SMALL) as writer:
        for frame in patches(30):
            writer.write(frame)
        writer.start_again()
        for frame in patches(3):
            writer.write(frame)
        writer.finish(nothing)
        finish_video(writer.stream, output, {}, nothing)
    assert len(read_frames(output, 64, 48)) == 3


def test_ffmpeg_is_really_called() -> None:
    assert ffmpeg("-version").returncode == 0
