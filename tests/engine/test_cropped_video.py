"""Sizes that a model does not make are cut out of what it makes, whatever strips the decode is cut into."""

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import DecodeMode, DecodeSettings
from engine.decode.frames import FrameStore, to_bgrx
from engine.decode.host_copies import HostCopies
from engine.decode.plan import plan
from engine.decode.streaming import DecodedBlock, decode_blocks
from engine.device import Device
from engine.job import Job
from engine.output.video_writer import VideoFormat, VideoWriter
from engine.render import RowsDone, start_copies
from engine.stages import Stages
from tests.engine.decode_cases import NARROW
from tests.engine.encode_cases import network
from tests.engine.video_reading import read_frames
from tests.engine.video_writing import nothing, write

CPU = torch.device("cpu")
LATENTS = (3, 7, 5)  # frames, rows and columns: 9 frames of 56 rows and 40 columns
SIZES = [(40, 56), (40, 50), (34, 56), (38, 42), (36, 54), (40, 16)]  # columns and rows


def job_in(folder: Path, canvas: Canvas) -> Job:
    device = Device(CPU, torch.float32, torch.float32)
    return Job(lambda _: None, canvas, CancelFlag(), device, Stages(lambda _: None, CPU), folder)


def decoded(settings: DecodeSettings) -> tuple[list[DecodedBlock], int]:
    made = plan(LATENTS, NARROW, torch.float32, settings)
    latents = torch.randn(1, NARROW.z_dim, *LATENTS, generator=torch.Generator().manual_seed(3))
    return list(decode_blocks(network(NARROW), latents, made)), made.blocks


ORDERS = [
    DecodeSettings(DecodeMode.STRIP_MAJOR, 8, 1),
    DecodeSettings(DecodeMode.FRAME_MAJOR, 6, 1),
    DecodeSettings(DecodeMode.STRIP_MAJOR, 3, 2),
    DecodeSettings(DecodeMode.WHOLE),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settings", ORDERS, ids=lambda settings: f"{settings.mode}-{settings.strip_rows}")
def test_the_video_is_the_upper_left_of_what_is_decoded(
    tmp_path: Path, size: tuple[int, int], settings: DecodeSettings
) -> None:
    columns, rows = size
    blocks, strips = decoded(settings)
    whole = np.zeros((9, 56, 40, 4), np.uint8)
    for block in blocks:
        bgrx = to_bgrx(block.rgb).numpy()
        place = whole[block.frame_start :, block.row_start :]
        place[: bgrx.shape[0], : bgrx.shape[1]] = bgrx
    canvas, told = Canvas(), list[int]()
    store = FrameStore(tmp_path / "frames", 9, rows, columns)
    canvas.open(store.pixels, 1, 1, 1)
    job, copies = job_in(tmp_path, canvas), HostCopies(CPU)
    done = RowsDone(strips, 56 * 9, lambda finished, _: told.append(finished))
    with VideoWriter(tmp_path / "stream.mp4", VideoFormat(columns, rows, 16)) as writer:
        for block in blocks:
            start_copies(job, store, writer, copies, block)
            done.add(block.rgb.shape[1] * block.rgb.shape[2])
        copies.finish()
        writer.finish(nothing)
        video = read_frames(writer.stream, columns, rows)
    assert (store.pixels == whole[:, :rows, :columns]).all()
    assert (canvas.rows_done == rows).all()
    assert told[-1] == strips
    assert all(dirty.row_stop <= rows for dirty in canvas.take_dirty()[0])
    write(tmp_path / "whole.mp4", np.ascontiguousarray(whole[:, :rows, :columns]), VideoFormat(columns, rows, 16))
    assert (video == read_frames(tmp_path / "whole.mp4", columns, rows)).all()


def test_a_store_keeps_nothing_from_below(tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "frames", 1, 10, 6)
    rgb = torch.zeros(3, 1, 4, 8)
    kept = [store.within(start, rgb).shape[2] for start in (0, 6, 8, 10, 12)]
    assert kept == [4, 4, 2, 0, 0]
