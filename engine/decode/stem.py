"""The coarsest part of the decoder, over whole latent frames: `conv2`, `conv1`, `middle`, first residual blocks.

The attention in the middle sees a whole frame, so nothing before it can be cut in rows; at latent resolution that is
cheap. Latent frames go through one at a time, each convolution keeping its past like those below the stem. Their
output waits in far memory: all of it where strips are the outer loop, else that of one chunk. Engine's thread.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from engine.decode.attention import attend
from engine.decode.caches import Cache
from engine.decode.room import Room
from engine.decode.rows import LayerRows
from engine.decode.strip_layers import Step, StripConv, StripResidual
from engine.decode.strip_network import stem_residuals
from engine.models.video_vae import FrameAttention, ResidualBlock, VideoVae

Stage = Callable[[Tensor, Step], Tensor]


class Stem:
    """Runs the latent frames in their order, and keeps the output of the last ones it ran."""

    def __init__(self, vae: VideoVae, latents: Tensor, window: int, far: Room, on_layer: Callable[[], None]) -> None:
        """`latents` [1, z, T, h, w] are normalised; `window` is the most frames that are asked for together."""
        self._vae = vae
        self._latents = latents
        self._on_layer = on_layer
        self._stages = stem_stages(vae)
        self._time = Cache(far)
        self._like = vae.conv2.weight
        height, width = latents.shape[3:]
        channels = vae.decoder.conv1.out_channels
        # Rows outermost, so that the rows of a strip are copied in one go.
        self._values = far((window, height, channels, width), self._like.dtype, self._like.device)
        self._start = self._stop = 0

    def run(self, start: int, stop: int) -> None:
        """Run the frames [start, stop), which follow those run before; the output of the latter is overwritten."""
        self._start = start
        for frame in range(start, stop):
            x = self._vae.denormalise(self._latents[:, :, frame : frame + 1]).to(self._like)
            step = self._step(frame)
            for stage in self._stages:
                x = stage(x, step)
                self._time.commit()
            self._values[frame - start].copy_(x[0, :, 0].transpose(0, 1), non_blocking=True)
        if stop == self._latents.shape[2]:
            self._time.clear()
        if self._like.is_cuda:  # `load` reads the output on the host, where copies may still be arriving
            torch.cuda.current_stream(self._like.device).synchronize()

    def load(self, frames: slice, rows: slice) -> Tensor:
        """The output [1, C, T, rows, w] of frames that `run` ran last, on the card."""
        kept = self._values[frames.start - self._start : frames.stop - self._start, rows]
        return kept.to(self._like.device, non_blocking=True).permute(2, 0, 1, 3).contiguous()[None]

    def _step(self, frame: int) -> Step:
        whole = LayerRows.of_whole(self._latents.shape[3])
        unused_rows = Cache()  # a picture that is not cut leaves no rows
        last = frame == self._latents.shape[2] - 1
        return Step(0, frame, last, True, (whole,) * (2 * len(self._stages)), self._time, unused_rows, self._on_layer)


def stem_stages(vae: VideoVae) -> list[Stage]:
    """The layers of the stem in order; those with a past have two places each in the schedule of rows."""
    blocks = [*vae.decoder.middle, *stem_residuals(vae)]
    return [_first_stage(vae), *(_stage(2 * place, block) for place, block in enumerate(blocks, start=1))]


def _first_stage(vae: VideoVae) -> Stage:
    conv1 = StripConv(0, None, vae.decoder.conv1)

    def from_latent(z: Tensor, step: Step) -> Tensor:
        return conv1.convolve(conv1.gather(vae.conv2(z), step), step)

    return from_latent


def _stage(index: int, block: torch.nn.Module) -> Stage:
    if isinstance(block, ResidualBlock):
        return StripResidual(index, block)
    assert isinstance(block, FrameAttention)
    attention = block
    return lambda x, step: attend(attention, x, step.on_layer)
