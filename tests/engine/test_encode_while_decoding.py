"""Frames are encoded as soon as their last rows are there, in whichever order the decode makes them."""

import dataclasses
from pathlib import Path

import numpy as np
import psutil
import pytest

from engine.commands import DecodeMode, DecodeSettings, GenerateVideo
from engine.events import Event, JobFinished, Stage, StageFinished, StageProgressed
from engine.output.video_writer import VideoWriter
from tests.engine.job_run import FRAMES, HEIGHT, WIDTH, Run, tiny_command
from tests.engine.video_reading import read_frames
from tests.engine.video_writing import ffmpeg_children

ORDERS = [DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR, DecodeMode.WHOLE, DecodeMode.REFERENCE]


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path) -> GenerateVideo:
    return tiny_command(tiny_model, tmp_path)


def in_order(command: GenerateVideo, mode: DecodeMode) -> GenerateVideo:
    strips = None if mode in (DecodeMode.WHOLE, DecodeMode.REFERENCE) else 16
    return dataclasses.replace(command, decode=DecodeSettings(mode, strips, 1))


@pytest.mark.parametrize("mode", ORDERS)
def test_the_video_is_what_the_canvas_shows(command: GenerateVideo, tmp_path: Path, mode: DecodeMode) -> None:
    run = Run(in_order(command, mode), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    video = read_frames(command.output, WIDTH, HEIGHT).astype(int)
    shown = run.canvas.pixels[..., 2::-1].astype(int)
    assert video.shape == shown.shape
    off = [[np.abs(frame - other).mean() for other in shown] for frame in video]
    assert [int(np.argmin(from_each)) for from_each in off] == list(range(FRAMES))


def test_frames_leave_while_others_are_decoded(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded_before: list[bool] = []
    write = VideoWriter.write

    def noting(writer: VideoWriter, frame: np.ndarray) -> None:
        decoded_before.append(any(isinstance(e, StageFinished) and e.stage is Stage.DECODE for e in run.events))
        write(writer, frame)

    monkeypatch.setattr(VideoWriter, "write", noting)
    run = Run(in_order(command, DecodeMode.FRAME_MAJOR), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    assert decoded_before == [False] * FRAMES


def test_an_encoder_killed_while_rows_are_decoded_costs_no_row(command: GenerateVideo, tmp_path: Path) -> None:
    killed: list[psutil.Process] = []

    def kill_once(event: Event) -> None:
        if isinstance(event, StageProgressed) and (event.stage, event.done) == (Stage.DECODE, 1):
            killed.extend(ffmpeg_children())
            for process in killed:
                process.kill()

    run = Run(in_order(command, DecodeMode.FRAME_MAJOR), tmp_path / "jobs", kill_once)
    assert isinstance(run(), JobFinished)
    assert len(killed) == 1
    assert sum(isinstance(e, StageFinished) and e.stage is Stage.DECODE for e in run.events) == 1
    assert len(read_frames(command.output, WIDTH, HEIGHT)) == FRAMES
