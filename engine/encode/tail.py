"""The coarsest part of the encoder, over whole latent frames: `middle`, `head`, `conv1`, normalisation.

The mirror of `engine.decode.stem`: the attention in the middle sees a whole frame, so what the strips made waits in
far memory until the frame is complete. Latent frames then go through one at a time, each convolution keeping its
past. Lives on the engine's thread.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.decode.attention import attend
from engine.decode.caches import Cache
from engine.decode.room import Room
from engine.decode.rows import LayerRows
from engine.decode.strip_layers import Step, StripHead, StripResidual
from engine.models.video_vae import FrameAttention, ResidualBlock, VideoVae

Stage = Callable[[Tensor, Step], Tensor]


class Tail:
    """Takes in the rows of a chunk of latent frames, runs the frames in their order, and keeps the latents."""

    def __init__(
        self, vae: VideoVae, shape: tuple[int, int, int], window: int, far: Room, on_layer: Callable[[], None]
    ) -> None:
        """`shape` (T, h, w) is that of all latents; `window` is the most frames that are taken in together.

        The latents [1, z, T, h, w] are float32 in host memory, normalised as far as `run` came.
        """
        frames, height, width = shape
        self.latents = torch.empty(1, vae.config.z_dim, frames, height, width)
        self._on_layer = on_layer
        self._stages = tail_stages(vae)
        self._like = vae.conv1.weight
        self._time = Cache(far)
        channels = vae.config.dim * vae.config.dim_mult[-1]
        # Rows outermost, so that the rows of a strip are copied in one go.
        self._values = far((window, height, channels, width), self._like.dtype, self._like.device)
        self._mean, self._std = (
            torch.tensor(values).view(-1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
        )

    def take(self, x: Tensor, row_start: int) -> None:
        """The rows from `row_start` on, [1, C, T, rows, w], of the frames that `run` runs next."""
        rows = slice(row_start, row_start + x.shape[3])
        for frame, values in enumerate(x[0].unbind(1)):  # [C, rows, w]
            self._values[frame, rows].copy_(values.transpose(0, 1), non_blocking=True)

    def run(self, start: int, stop: int) -> None:
        """Latents of the frames [start, stop), which follow those run before, of the rows that were taken in."""
        for frame in range(start, stop):
            x = self._load(frame - start)
            step = self._step(frame)
            for stage in self._stages:
                x = stage(x, step)
                self._time.commit()
            # Waits for the card; in float32, whatever the network's own type.
            self.latents[0, :, frame].copy_(x[0, : self.latents.shape[1], 0])
            self.latents[0, :, frame].sub_(self._mean).div_(self._std)
        if stop == self.latents.shape[2]:
            self._time.clear()

    def _load(self, place: int) -> Tensor:
        """[1, C, 1, h, w] on the card."""
        kept = self._values[place].to(self._like.device, non_blocking=True)  # [h, C, w]
        return kept.transpose(0, 1).contiguous()[None, :, None]

    def _step(self, frame: int) -> Step:
        whole = LayerRows.of_whole(self.latents.shape[3])
        unused_rows = Cache()  # a picture that is not cut leaves no rows
        last = frame == self.latents.shape[2] - 1
        return Step(0, frame, last, True, (whole,) * (2 * len(self._stages)), self._time, unused_rows, self._on_layer)


def tail_stages(vae: VideoVae) -> list[Stage]:
    """The layers of the tail in order; those with a past have two places each in the schedule of rows."""
    middle = [_stage(2 * place, block) for place, block in enumerate(vae.encoder.middle)]
    conv1 = vae.conv1
    return [*middle, StripHead(2 * len(middle), vae.encoder.head), lambda x, _: conv1(x)]


def _stage(index: int, block: nn.Module) -> Stage:
    if isinstance(block, ResidualBlock):
        return StripResidual(index, block)
    assert isinstance(block, FrameAttention)
    attention = block
    return lambda x, step: attend(attention, x, step.on_layer)
