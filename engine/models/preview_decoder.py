"""The tiny decoder that shows latents while they are sampled: whole clips, or one latent frame after the other.

Structure and parameter names of the decoder half of TAEHV (``madebyollin/taehv``; ``taew2_1``, ``taew2_2`` and
``taew2_2_super``). Every layer works on single frames; the only way through time is that some blocks also see what
they were given one frame before, zeros before the first. Both ways through the network walk the same layers.

T frames, C channels, H height, W width, z latent channels; latents are normalised, as the transformer makes them.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_GROWTH = (1, 2, 2)  # frames that each stage makes of one
TRIMMED_FRAMES = 3  # the first latent frame stands for one frame alone, and that is its last
COLOURS = 3


@dataclass(frozen=True, slots=True)
class PreviewDecoderConfig:
    """Sizes of one decoder; the defaults are those of ``taew2_1``."""

    latent_channels: int = 16
    patch_size: int = 1
    widths: tuple[int, ...] = (256, 128, 64, 64)  # of the three stages and of what the last one hands on
    is_super: bool = False

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent row and column."""
        return 2 ** len(TIME_GROWTH) * self.patch_size


class Clamp(nn.Module):
    """3 tanh(x / 3): latents that went astray cannot blind the network."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class MemBlock(nn.Module):
    """Three convolutions over a frame and the one before it, added to the frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv3(2 * channels, channels), nn.ReLU(inplace=True),
            conv3(channels, channels), nn.ReLU(inplace=True),
            conv3(channels, channels),
        )  # fmt: skip

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.conv(torch.cat([x, past], dim=1)).add_(x).relu_()


class SuperMemBlock(nn.Module):
    """7x7 by channel, then two layers by pixel, over a frame and the one before it, added to the frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        both, wide = 2 * channels, 4 * channels
        self.conv = nn.Sequential(
            nn.Conv2d(both, both, 7, padding=3, groups=both, bias=False),
            nn.Conv2d(both, wide, 1), nn.ReLU(inplace=True),
            nn.Conv2d(wide, channels, 1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.conv(torch.cat([x, past], dim=1)).add_(x)


class TGrow(nn.Module):
    """Makes `frames` frames of one: the first C channels of a 1x1 convolution are the first of them."""

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(channels, frames * channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).unflatten(1, (self.frames, -1)).flatten(0, 1)  # [T * frames, C, H, W]

    def frame(self, x: Tensor, index: int) -> Tensor:
        """Only frame `index` of those that x [1, C, H, W] grows into."""
        return F.conv2d(x, self.conv.weight.chunk(self.frames)[index])  # [1, C, H, W]


def conv3(c_in: int, c_out: int, *, bias: bool = True) -> nn.Conv2d:
    """The 3x3 convolution that most of the network is made of."""
    return nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias)


@dataclass(slots=True)
class StreamState:
    """What a stream remembers: the last frame that came to every block with a memory, by the number of the layer."""

    past: dict[int, Tensor] = field(default_factory=dict)


def ignore() -> None:
    """For callers that do not want to stop in the middle."""


class PreviewDecoder(nn.Module):
    """Normalised latents to pictures in 0..1, red, green, blue.

    One latent frame gives four pictures, the first one only one. `stream` and `last_picture` take one latent frame a
    call, in order, and all of a clip with the same state; `on_layer` is called before every layer, and what it raises
    leaves the call.
    """

    def __init__(self, config: PreviewDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.decoder = nn.Sequential(*(_super_layers(config) if config.is_super else _plain_layers(config)))
        last_memory = max(i for i, layer in enumerate(self.decoder) if isinstance(layer, MemBlock | SuperMemBlock))
        self._tail = last_memory + 1  # the layers from here on remember nothing

    def forward(self, latents: Tensor) -> Tensor:
        """Latents [1, T, z, h, w] to pictures [1, 4T-3, 3, H, W], all frames at once: memory grows with the clip."""
        x = latents.squeeze(0)  # [T, z, h, w]
        for layer in self.decoder:
            remembers = isinstance(layer, MemBlock | SuperMemBlock)
            x = layer(x, _one_frame_later(x)) if remembers else layer(x)
        return self._picture(x[TRIMMED_FRAMES:]).unsqueeze(0)

    def stream(self, latent: Tensor, state: StreamState, on_layer: Callable[[], None] = ignore) -> Iterator[Tensor]:
        """The next latent frame [1, z, h, w] to its pictures [1, 3, H, W], one after the other.

        They must all be taken before the next latent frame is given.
        """
        trimmed = 0 if state.past else TRIMMED_FRAMES
        for number, x in enumerate(self._walk(latent, state, on_layer, 0, len(self.decoder))):
            if number >= trimmed:
                yield self._picture(x)

    def last_picture(self, latent: Tensor, state: StreamState, on_layer: Callable[[], None] = ignore) -> Tensor:
        """The last of the pictures that `stream` would give, [1, 3, H, W].

        The others are computed only as far as later frames depend on them.
        """
        x = deque(self._walk(latent, state, on_layer, 0, self._tail), maxlen=1).pop()
        for index in range(self._tail, len(self.decoder)):
            on_layer()
            layer = self.decoder[index]
            x = layer.frame(x, layer.frames - 1) if isinstance(layer, TGrow) else layer(x)
        return self._picture(x)

    def _walk(
        self, x: Tensor, state: StreamState, on_layer: Callable[[], None], start: int, stop: int
    ) -> Iterator[Tensor]:
        """One frame x [1, C, H, W] through the layers from `start` up to `stop`: the frames that come out.

        A frame goes all the way before the next one is made, so that only one is alive at each resolution.
        """
        for index in range(start, stop):
            on_layer()
            layer = self.decoder[index]
            if isinstance(layer, TGrow):
                for frame in range(layer.frames):
                    yield from self._walk(layer.frame(x, frame), state, on_layer, index + 1, stop)
                return
            x = self._remembering(index, x, state) if isinstance(layer, MemBlock | SuperMemBlock) else layer(x)
        yield x

    def _remembering(self, index: int, x: Tensor, state: StreamState) -> Tensor:
        past = state.past.get(index)
        state.past[index] = x
        return self.decoder[index](x, torch.zeros_like(x) if past is None else past)

    def _picture(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, self.config.patch_size).clamp(0, 1)  # [T, 3, H, W]


def _one_frame_later(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])  # [T, C, H, W]


def _plain_layers(config: PreviewDecoderConfig) -> Iterator[nn.Module]:
    yield from (Clamp(), conv3(config.latent_channels, config.widths[0]), nn.ReLU(inplace=True))
    for (width, next_width), frames in zip(pairwise(config.widths), TIME_GROWTH, strict=True):
        yield from (MemBlock(width), MemBlock(width), MemBlock(width))
        yield from (nn.Upsample(scale_factor=2), TGrow(width, frames), conv3(width, next_width, bias=False))
    yield from (nn.ReLU(inplace=True), conv3(config.widths[-1], COLOURS * config.patch_size**2))


def _super_layers(config: PreviewDecoderConfig) -> Iterator[nn.Module]:
    yield nn.Conv2d(config.latent_channels, config.widths[0], 1, bias=False)
    for (width, next_width), frames in zip(pairwise(config.widths), TIME_GROWTH, strict=True):
        yield from (SuperMemBlock(width), SuperMemBlock(width), SuperMemBlock(width))
        yield from (conv3(width, 4 * next_width), nn.ReLU(inplace=True), nn.PixelShuffle(2), TGrow(next_width, frames))
    yield conv3(config.widths[-1], COLOURS * config.patch_size**2)
