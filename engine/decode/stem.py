"""The coarsest part of the decoder, over whole latent frames: `conv2`, `conv1`, `middle`, first residual blocks.

The attention in the middle sees a whole frame, so nothing before it can be cut in rows; at latent resolution that is
cheap. Stages run outermost and latent frames one at a time, so that only one stage's caches are on the card; the
frames wait in host memory between the stages. Lives on the engine's thread.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.decode.caches import Cache, host_tensor
from engine.decode.rows import LayerRows
from engine.decode.strip_layers import Step, StripConv, StripResidual
from engine.models.video_vae import FrameAttention, ResidualBlock, VideoVae

MAX_SCORES = 2**22  # attention scores that exist at once: 16 MiB in float32, where no fused kernel is to be had

Stage = Callable[[Tensor, Step], Tensor]


class StemFrames:
    """The stem's output for all latent frames, in host memory, rows outermost so that strips are copied in one go."""

    def __init__(self, frames: int, channels: int, height: int, width: int, like: Tensor) -> None:
        self._device = like.device
        self._values = host_tensor((frames, height, channels, width), like.dtype, like.device)

    def load(self, frames: slice, rows: slice) -> Tensor:
        """[1, C, T, rows, w] on the card."""
        part = self._values[frames, rows].to(self._device, non_blocking=True)
        return part.permute(2, 0, 1, 3).contiguous()[None]

    def store(self, frame: int, value: Tensor) -> None:
        """Keep value [1, C, 1, h, w]."""
        self._values[frame].copy_(value[0, :, 0].transpose(0, 1), non_blocking=True)


def run_stem(vae: VideoVae, latents: Tensor, on_layer: Callable[[], None]) -> StemFrames:
    """Normalised latents [1, z, T, h, w] to the input of the first upsampler, [1, C, T, h, w] in host memory."""
    like = vae.conv2.weight
    _, _, count, height, width = latents.shape
    frames = StemFrames(count, vae.decoder.conv1.out_channels, height, width, like)
    for depth, stage in enumerate(_stages(vae)):
        time = Cache(on_host=False)
        for t in range(count):
            at = slice(t, t + 1)
            x = frames.load(at, slice(None)) if depth else vae.denormalise(latents[:, :, at]).to(like)
            frames.store(t, stage(x, _step(t, count, height, time, on_layer)))
    if like.is_cuda:  # what follows reads the frames on the host, where copies may still be arriving
        torch.cuda.current_stream(like.device).synchronize()
    return frames


def stem_residuals(vae: VideoVae) -> int:
    """How many of the layers in `upsamples` belong to the stem: the residual blocks before the first upsampler."""
    layers = list(vae.decoder.upsamples)
    return next((i for i, layer in enumerate(layers) if not isinstance(layer, ResidualBlock)), len(layers))


def _stages(vae: VideoVae) -> list[Stage]:
    decoder = vae.decoder
    blocks = [*decoder.middle, *list(decoder.upsamples)[: stem_residuals(vae)]]
    return [_first_stage(vae), *(_stage(block) for block in blocks)]


def _first_stage(vae: VideoVae) -> Stage:
    conv1 = StripConv(0, None, vae.decoder.conv1)

    def from_latent(z: Tensor, step: Step) -> Tensor:
        return conv1.convolve(conv1.gather(vae.conv2(z), step), step)

    return from_latent


def _stage(block: torch.nn.Module) -> Stage:
    if isinstance(block, ResidualBlock):
        return StripResidual(0, block)
    assert isinstance(block, FrameAttention)
    attention = block
    return lambda x, step: attend(attention, x, step.on_layer)


def attend(layer: FrameAttention, x: Tensor, on_layer: Callable[[], None]) -> Tensor:
    """Self-attention inside one frame, [1, C, 1, h, w] to the same."""
    frame = x[:, :, 0]
    mixed = _mix(layer, frame, on_layer)  # [1, 1, L, C]
    return x + layer.proj(mixed[:, 0].transpose(1, 2).reshape(frame.shape))[:, :, None]


def _mix(layer: FrameAttention, frame: Tensor, on_layer: Callable[[], None]) -> Tensor:
    """Softmax of queries on keys, times values; some queries at a time, so that no score matrix is ever whole."""
    qkv = layer.to_qkv(layer.norm(frame)).flatten(2).transpose(1, 2)[:, None]  # [1, 1, L, 3C]
    q, k, v = qkv.chunk(3, dim=-1)
    parts = []
    for some in q.split(max(1, MAX_SCORES // q.shape[2]), dim=2):
        on_layer()
        parts.append(F.scaled_dot_product_attention(some, k, v))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _step(frame: int, frames: int, height: int, time: Cache, on_layer: Callable[[], None]) -> Step:
    whole = LayerRows.of_whole(height)
    unused_rows = Cache(on_host=False)  # a picture that is not cut leaves no rows
    return Step(0, frame, frame == frames - 1, True, (whole, whole), time, unused_rows, on_layer)
