"""From latents to MP4: rows decoded into the shared canvas, frames encoded as they are finished. Engine thread."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine.canvas import DirtyRows
from engine.clip import Decoder
from engine.decode.frames import FrameStore, to_bgrx
from engine.decode.host_copies import HostCopies
from engine.decode.one_ahead import OneAhead
from engine.decode.plan import DecodePlan, peak_in_smallest_strips
from engine.decode.reference import reference_blocks
from engine.decode.streaming import DecodedBlock, decode_blocks
from engine.device import free_bytes, is_out_of_memory
from engine.errors import EngineError, ErrorCode
from engine.events import DecodeRecut, Stage
from engine.job import Job
from engine.models.video_vae import VideoVae
from engine.output.finished_video import finish_video
from engine.output.metadata import JobRecord
from engine.output.video_writer import VideoWriter
from engine.weights.load import load_vae

BYTES_AT_ONCE = 64 << 20  # of pixels that leave the card together; a row of reference tiles has all frames


def decode(
    job: Job, decoder: Decoder, latents: Tensor, plan: DecodePlan, store: FrameStore, writer: VideoWriter, folder: Path
) -> None:
    """Normalised `latents` [1, z, T, h, w] to the pixels of `store`, which the canvas shows and `writer` encodes.

    The latents are float32 in host memory; caches that it cannot hold go to files in `folder`. A cancel is noticed
    before every convolution. The VAE is gone when this returns. Raises what `blocks_of` raises.
    """
    device, dtype = job.device.torch_device, job.device.vae_dtype
    with job.stages.run(Stage.DECODE, plan.predicted_peak_bytes, plan.budget_bytes) as progress:
        vae = load_vae(decoder.files, device, dtype, job.reading(Stage.DECODE))
        done = RowsDone(plan.blocks, plan.height * len(store.pixels), progress)
        copies = HostCopies(device)
        for block in blocks_of(job, vae, latents, plan, folder):
            start_copies(job, store, writer, copies, block)
            done.add(block.rgb.shape[1] * block.rgb.shape[2])
            del block  # as large as what is copied, and in the way of the next step
        copies.finish()


def start_copies(job: Job, store: FrameStore, writer: VideoWriter, copies: HostCopies, block: DecodedBlock) -> None:
    """Have the bytes of `block` brought into host memory and put in their place."""
    for frame_start, bgrx in pieces_of(block, store):
        copies.start(bgrx, partial(place, job, store, writer, frame_start, block.row_start))


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

    When memory runs out for good it raises NO_PLAN_FITS if the smallest strips do not fit into what is free or into
    the budget, and the error itself if they should have fitted.
    """
    on_layer = OneAhead(job.device.torch_device, job.cancel)
    try:
        if plan.tiling is not None:
            yield from reference_blocks(vae, latents, plan.tiling, on_layer)
        else:
            recut = partial(tell_of_recut, job)
            yield from decode_blocks(vae, latents, plan, on_layer, on_recut=recut, cache_folder=folder)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        smallest = peak_in_smallest_strips(plan, latents.shape[4], vae.config, job.device.vae_dtype)
        free = free_bytes(job.device)
        budget = free if plan.budget_bytes is None else min(free, plan.budget_bytes)
        if smallest <= budget:
            raise
        raise EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=budget, smallest_bytes=smallest) from error


def tell_of_recut(job: Job, strip_rows: int) -> None:
    """Memory ran out, and the decode goes on in smaller strips."""
    job.emit(DecodeRecut(strip_rows))


def pieces_of(block: DecodedBlock, store: FrameStore) -> Iterator[tuple[int, Tensor]]:
    """The bytes of what `store` keeps of `block`, some frames at a time: the first frame, and bgrx [F, R, W, 4]."""
    rgb = store.within(block.row_start, block.rgb)
    _, frames, rows, columns = rgb.shape
    if not rows:
        return
    together = max(1, BYTES_AT_ONCE // (rows * columns * 4))
    for start in range(0, frames, together):
        yield block.frame_start + start, bytes_of(rgb[:, start : start + together])


def place(job: Job, store: FrameStore, writer: VideoWriter, frame_start: int, row_start: int, bgrx: Tensor) -> None:
    """Put rows bgrx [F, R, W, 4] into their frames, tell the canvas, and have those that are finished encoded.

    Rows come from the top in every frame, and the last rows of the frames in the frames' order.
    """
    store.write(frame_start, row_start, bgrx)
    frame_stop, row_stop = frame_start + bgrx.shape[0], row_start + bgrx.shape[1]
    job.canvas.mark_dirty(DirtyRows(frame_start, frame_stop, row_start, row_stop))
    if row_stop == store.pixels.shape[1]:
        for frame in store.pixels[frame_start:frame_stop]:
            writer.write(frame)


def bytes_of(rgb: Tensor) -> Tensor:
    """The bytes of `to_bgrx`, made in host memory where the card has no room left for them."""
    try:
        return to_bgrx(rgb)
    except torch.OutOfMemoryError:
        return to_bgrx(rgb.cpu())


def encode(job: Job, output: Path, store: FrameStore, writer: VideoWriter, record: JobRecord) -> None:
    """What `writer` has not encoded yet of the frames of `store`, and the MP4 `output`, which appears when it is whole.

    An encoder that broke while rows were decoded starts again, since all frames are there: a decode of hours is not
    lost to it.
    """
    frames, told = writer.frames_in_all(len(store.pixels)), 0
    with job.stages.run(Stage.ENCODE, predicted_peak_bytes=0) as progress:  # no tensors

        def wait() -> None:
            nonlocal told
            job.cancel.raise_if_set()
            if writer.frames_written > told:
                told = writer.frames_written
                progress(told, frames)

        try:
            writer.finish(wait)
        except EngineError:
            writer.start_again()
            for frame in store.pixels:
                writer.write(frame)
            writer.finish(wait)
        finish_video(writer.stream, output, {"comment": record.as_json()}, job.cancel.raise_if_set)
