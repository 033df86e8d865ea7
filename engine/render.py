"""From latents to MP4: rows decoded into the shared canvas, then the frames encoded. Engine thread."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine.canvas import DirtyRows
from engine.clip import Model
from engine.decode.frames import FrameStore, to_bgrx
from engine.decode.plan import DecodePlan, peak_in_smallest_strips
from engine.decode.reference import reference_blocks
from engine.decode.streaming import DecodedBlock, decode_blocks
from engine.device import free_bytes, is_out_of_memory
from engine.errors import EngineError, ErrorCode
from engine.events import DecodeRecut, Stage
from engine.job import Job
from engine.models.video_vae import VideoVae
from engine.output.metadata import JobRecord
from engine.output.video_writer import VideoFormat, VideoWriter
from engine.weights.load import load_vae

FRAMES_AT_ONCE = 16  # are made bytes together; a row of reference tiles comes with all of its frames


def decode(job: Job, model: Model, latents: Tensor, plan: DecodePlan, store: FrameStore, folder: Path) -> None:
    """Normalised `latents` [1, z, T, h, w] to the pixels of `store`, which the canvas shows as they come.

    The latents are float32 in host memory; caches that it cannot hold go to files in `folder`. A cancel is noticed
    before every convolution. The VAE is gone when this returns. Raises what `blocks_of` raises.
    """
    device, dtype = job.device.torch_device, job.device.vae_dtype
    with job.stages.run(Stage.DECODE, plan.predicted_peak_bytes, plan.budget_bytes) as progress:
        vae = load_vae(model.files, device, dtype, job.cancel.raise_if_set)
        done = RowsDone(plan.blocks, plan.height * store.pixels.shape[0], progress)
        for block in blocks_of(job, vae, latents, plan, folder):
            place(job, store, block)
            done.add(block.rgb.shape[1] * block.rgb.shape[2])


class RowsDone:
    """Reports finished rows of all frames as strips of the plan, also when strips had to be made smaller meanwhile."""

    def __init__(self, strips: int, rows: int, progress: Callable[[int, int], None]) -> None:
        self._strips = strips
        self._rows = rows
        self._progress = progress
        self._done = 0
        progress(0, strips)

    def add(self, rows: int) -> None:
        """`rows` more have been finished."""
        before, self._done = self._begun(), self._done + rows
        if self._begun() > before:
            self._progress(self._begun(), self._strips)

    def _begun(self) -> int:
        return -(-self._strips * self._done // self._rows)


def blocks_of(job: Job, vae: VideoVae, latents: Tensor, plan: DecodePlan, folder: Path) -> Iterator[DecodedBlock]:
    """The blocks of the decode that `plan` stands for.

    When memory runs out for good it raises NO_PLAN_FITS if the smallest strips do not fit into what is free, and the
    error itself if they should have fitted.
    """
    try:
        if plan.tiling is not None:
            yield from reference_blocks(vae, latents, plan.tiling, job.check)
        else:
            recut = partial(tell_of_recut, job)
            yield from decode_blocks(vae, latents, plan, job.check, on_recut=recut, cache_folder=folder)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        smallest = peak_in_smallest_strips(plan, latents.shape[4], vae.config, job.device.vae_dtype)
        free = free_bytes(job.device)
        if smallest <= free:
            raise
        raise EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=free, smallest_bytes=smallest) from error


def tell_of_recut(job: Job, strip_rows: int) -> None:
    """Memory ran out, and the decode goes on in smaller strips."""
    job.emit(DecodeRecut(strip_rows))


def place(job: Job, store: FrameStore, block: DecodedBlock) -> None:
    """Put the rows of `block` into the frames, some frames at a time, and tell the canvas."""
    _, frames, rows, _ = block.rgb.shape
    for start in range(0, frames, FRAMES_AT_ONCE):
        part = block.rgb[:, start : start + FRAMES_AT_ONCE]
        store.write(block.frame_start + start, block.row_start, bytes_of(part))
    stop_frame, stop_row = block.frame_start + frames, block.row_start + rows
    job.canvas.mark_dirty(DirtyRows(block.frame_start, stop_frame, block.row_start, stop_row))


def bytes_of(rgb: Tensor) -> Tensor:
    """The bytes of `to_bgrx`, made in host memory where the card has no room left for them."""
    try:
        return to_bgrx(rgb)
    except torch.OutOfMemoryError:
        return to_bgrx(rgb.cpu())


def encode(job: Job, output: Path, fps: int, store: FrameStore, record: JobRecord) -> None:
    """The frames of `store` to the MP4 `output`, which appears when it is whole."""
    frames, height, width = store.pixels.shape[:3]
    video, tags = VideoFormat(width, height, fps), {"comment": record.as_json()}
    writer = VideoWriter(output, video, tags, job.cancel.raise_if_set)
    with job.stages.run(Stage.ENCODE, predicted_peak_bytes=0) as progress, writer:  # no tensors
        for done, frame in enumerate(store.pixels, start=1):
            job.cancel.raise_if_set()
            writer.write(frame)
            progress(done, frames)
