"""From latents to MP4: rows decoded into the shared canvas, then the frames encoded. Engine thread."""

from pathlib import Path

from torch import Tensor

from engine.canvas import DirtyRows
from engine.clip import Model
from engine.decode.frames import FrameStore, to_bgrx
from engine.decode.plan import DecodePlan
from engine.decode.streaming import DecodedBlock, decode_blocks
from engine.events import Stage
from engine.job import Job
from engine.output.metadata import JobRecord
from engine.output.video_writer import VideoFormat, VideoWriter
from engine.weights.load import load_vae


def decode(job: Job, model: Model, latents: Tensor, plan: DecodePlan, store: FrameStore) -> None:
    """Normalised `latents` [1, z, T, h, w] to the pixels of `store`, which the canvas shows as they come.

    The latents are float32 in host memory. A cancel is noticed before every convolution. The VAE is gone when this
    returns.
    """
    device, dtype = job.device.torch_device, job.device.vae_dtype
    total = plan.strips * plan.chunks
    with job.stages.run(Stage.DECODE, plan.predicted_peak_bytes, plan.budget_bytes) as progress:
        vae = load_vae(model.files, device, dtype, job.cancel.raise_if_set)
        progress(0, total)
        blocks = decode_blocks(vae, latents, plan, on_layer=job.check)
        for done, block in enumerate(blocks, start=1):
            place(job, store, block)
            progress(done, total)


def place(job: Job, store: FrameStore, block: DecodedBlock) -> None:
    """Put the rows of `block` into the frames and tell the canvas."""
    bgrx = to_bgrx(block.rgb)  # [F, R, W, 4]
    store.write(block.frame_start, block.row_start, bgrx)
    frames, rows = bgrx.shape[:2]
    stop_frame, stop_row = block.frame_start + frames, block.row_start + rows
    job.canvas.mark_dirty(DirtyRows(block.frame_start, stop_frame, block.row_start, stop_row))


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
