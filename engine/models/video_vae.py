"""The Wan 2.1 video VAE: the network itself, whole sequences in, whole sequences out.

Written from the formulas of the official ``wan/modules/vae.py``; parameter names are those of
``Wan2.1_VAE.pth``. The official code feeds both halves in chunks of frames with caches. Every one of
those caches holds exactly the frames that a causal convolution over the whole sequence would see, so the
whole-sequence forms below are the same functions; `engine.decode.streaming` walks the same layers in pieces.

B batch, T frames, C channels, H height, W width; latents are [B, C, T, H, W] as in the checkpoints.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class VideoVaeConfig:
    """Sizes and latent statistics of one VAE; the defaults are the Wan 2.1 checkpoint's."""

    dim: int = 96
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    temporal_downsample: tuple[bool, ...] = (False, True, True)
    latents_mean: tuple[float, ...] = (
        -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
        0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
    )  # fmt: skip
    latents_std: tuple[float, ...] = (
        2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
        3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
    )  # fmt: skip

    @property
    def decoder_dim(self) -> int:
        """Width that the decoder's widths are multiples of, as `dim` is for the encoder."""
        return self.dim

    @property
    def patch_size(self) -> int:
        """Rows, and columns, of pixels that are one value of the network's finest grid."""
        return 1

    @property
    def picture_channels(self) -> int:
        """Channels in which the encoder takes pixels and the decoder makes them."""
        return 3

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent row and column."""
        return 2 ** (len(self.dim_mult) - 1)

    @property
    def temporal_factor(self) -> int:
        """Frames per latent frame after the first, which stands for one frame alone."""
        return 2 ** sum(self.temporal_downsample)

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` frames; surplus frames are dropped, as officially."""
        return 1 + (frames - 1) // self.temporal_factor

    def frames(self, latent_frames: int) -> int:
        """Frames that `latent_frames` latent frames decode to."""
        return 1 + (latent_frames - 1) * self.temporal_factor


class RmsNorm(nn.Module):
    """x / max(L2 over channels, 1e-12) * sqrt(C) * gamma; no statistic crosses a pixel."""

    def __init__(self, channels: int, *, images: bool = False) -> None:
        super().__init__()
        self.scale = channels**0.5
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1) if images else torch.ones(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * (self.scale * self.gamma)


class CausalConv3d(nn.Conv3d):
    """A 3-D convolution whose zero padding in time lies wholly in the past."""

    def __init__(self, c_in: int, c_out: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(c_in, c_out, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))
        self.past_frames = kernel[0] - 1

    def forward(self, x: Tensor) -> Tensor:
        # Padding by nothing would still copy.
        return super().forward(F.pad(x, (0, 0, 0, 0, self.past_frames, 0)) if self.past_frames else x)


def causal_conv3(c_in: int, c_out: int) -> CausalConv3d:
    """The 3x3x3 causal convolution that all of the network is made of."""
    return CausalConv3d(c_in, c_out, (3, 3, 3))


def causal_conv1(c_in: int, c_out: int) -> CausalConv3d:
    """A 1x1x1 convolution, stored as 3-D like the official one."""
    return CausalConv3d(c_in, c_out, (1, 1, 1))


class ResidualBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, added to the input (1x1x1 convolved if the widths differ)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            RmsNorm(c_in), nn.SiLU(), causal_conv3(c_in, c_out),
            RmsNorm(c_out), nn.SiLU(), nn.Identity(), causal_conv3(c_out, c_out),
        )  # fmt: skip
        self.shortcut = nn.Identity() if c_in == c_out else causal_conv1(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.residual(x)


class FrameAttention(nn.Module):
    """Single-head self-attention inside each frame; the only operator that sees a whole frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = RmsNorm(channels, images=True)
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(b * t, c, h, w)
        qkv = self.to_qkv(self.norm(frames)).reshape(b * t, 1, 3 * c, h * w).transpose(2, 3)
        q, k, v = qkv.chunk(3, dim=-1)  # [B*T, 1, H*W, C]
        out = F.scaled_dot_product_attention(q, k, v)
        out = out.squeeze(1).transpose(1, 2).reshape(b * t, c, h, w)
        return x + self.proj(out).reshape(b, t, c, h, w).transpose(1, 2)


def per_frame(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a 2-D `layer` to every frame of x [B, C, T, H, W]."""
    b, _, t = x.shape[:3]
    out = layer(x.transpose(1, 2).flatten(0, 1))  # [B*T, C', H', W']
    return out.unflatten(0, (b, t)).transpose(1, 2)


class Downsample(nn.Module):
    """Halves height and width, and with `temporal` also the frames after the first."""

    def __init__(self, channels: int, *, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
        if temporal:
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = per_frame(self.resample, x)
        if not self.temporal or x.shape[2] < 3:
            return x[:, :, :1] if self.temporal else x
        # The first frame passes alone; every pair after it also sees the frame before the pair.
        return torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)


class Upsample(nn.Module):
    """Doubles height and width, and with `temporal` also the frames after the first."""

    def __init__(self, c_in: int, c_out: int, *, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.resample = nn.Sequential(
            nn.Upsample(scale_factor=(2.0, 2.0), mode="nearest-exact"),
            nn.Conv2d(c_in, c_out, 3, padding=1),
        )
        if temporal:
            self.time_conv = CausalConv3d(c_in, 2 * c_in, (3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        if self.temporal and x.shape[2] > 1:
            # The convolution starts afresh at the second frame: it never sees the first.
            x = torch.cat([x[:, :, :1], interleave_frames(self.time_conv(x[:, :, 1:]))], dim=2)
        return per_frame(self.resample, x)


def interleave_frames(x: Tensor) -> Tensor:
    """[B, 2C, T, H, W] -> [B, C, 2T, H, W]: the first C channels are the even frames."""
    even, odd = x.chunk(2, dim=1)
    return torch.stack([even, odd], dim=3).flatten(2, 3)


def head_layers(c_in: int, c_out: int) -> nn.Sequential:
    """norm, SiLU, conv: the end of both halves."""
    return nn.Sequential(RmsNorm(c_in), nn.SiLU(), causal_conv3(c_in, c_out))


def middle_layers(channels: int) -> nn.Sequential:
    """residual block, attention, residual block: the coarsest level of both halves."""
    return nn.Sequential(ResidualBlock(channels, channels), FrameAttention(channels), ResidualBlock(channels, channels))


class Encoder(nn.Module):
    """Pixels [B, 3, T, H, W] in -1..1 to moments [B, 2z, 1+(T-1)//4, H/8, W/8] (default sizes)."""

    def __init__(self, config: VideoVaeConfig) -> None:
        super().__init__()
        widths = [config.dim * m for m in (1, *config.dim_mult)]
        self.conv1 = causal_conv3(config.picture_channels, widths[0])
        self.downsamples = nn.Sequential(*self._stages(config, widths))
        self.middle = middle_layers(widths[-1])
        self.head = head_layers(widths[-1], 2 * config.z_dim)

    @staticmethod
    def _stages(config: VideoVaeConfig, widths: list[int]) -> Iterator[nn.Module]:
        last = len(config.dim_mult) - 1
        for i, (c_in, c_out) in enumerate(pairwise(widths)):
            for block in range(config.num_res_blocks):
                yield ResidualBlock(c_in if block == 0 else c_out, c_out)
            if i != last:
                yield Downsample(c_out, temporal=config.temporal_downsample[i])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.downsamples(self.conv1(x))))


class Decoder(nn.Module):
    """Latents [B, z, T, h, w] to pixels [B, 3, 4T-3, 8h, 8w] (default sizes), not clamped."""

    def __init__(self, config: VideoVaeConfig) -> None:
        super().__init__()
        mult = config.dim_mult[::-1]
        widths = [config.decoder_dim * m for m in (mult[0], *mult)]
        self.conv1 = causal_conv3(config.z_dim, widths[0])
        self.middle = middle_layers(widths[0])
        self.upsamples = nn.Sequential(*self._stages(config, widths))
        self.head = head_layers(widths[-1], config.picture_channels)

    @staticmethod
    def _stages(config: VideoVaeConfig, widths: list[int]) -> Iterator[nn.Module]:
        last = len(config.dim_mult) - 1
        temporal = config.temporal_downsample[::-1]
        for i, (c_before, c_out) in enumerate(pairwise(widths)):
            c_in = c_before if i == 0 else c_before // 2  # every upsampler halves the width
            for block in range(config.num_res_blocks + 1):
                yield ResidualBlock(c_in if block == 0 else c_out, c_out)
            if i != last:
                yield Upsample(c_out, c_out // 2, temporal=temporal[i])

    def forward(self, z: Tensor) -> Tensor:
        return self.head(self.upsamples(self.middle(self.conv1(z))))


class VideoVae(nn.Module):
    """Encoder, decoder and the 1x1x1 convolutions between them and the latents."""

    def __init__(
        self, config: VideoVaeConfig, encoder: type[Encoder] = Encoder, decoder: type[Decoder] = Decoder
    ) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder(config)
        self.conv1 = causal_conv1(2 * config.z_dim, 2 * config.z_dim)
        self.conv2 = causal_conv1(config.z_dim, config.z_dim)
        self.decoder = decoder(config)

    def encode(self, video: Tensor) -> Tensor:
        """Video [B, 3, T, H, W] in -1..1 to normalised latents [B, z, T', h, w]; surplus frames are dropped."""
        frames = self.config.frames(self.config.latent_frames(video.shape[2]))
        mu = self.moments(video[:, :, :frames]).chunk(2, dim=1)[0]
        mean, std = self._statistics(mu)
        return (mu - mean) / std

    def moments(self, video: Tensor) -> Tensor:
        """Mean and log variance of the latents, [B, 2z, T', h, w]; T must be 4n+1 (default sizes)."""
        return self.conv1(self.encoder(video))

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, z, T', h, w] to video [B, 3, T, H, W], whole and not clamped.

        The reference for `engine.decode`, and enough for training; its peak grows with the clip.
        """
        return self.decoder(self.conv2(self.denormalise(latents)))

    def denormalise(self, latents: Tensor) -> Tensor:
        """The latents as the decoder was trained on them: z * std + mean."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, 1, 1, 1)
        mean = torch.tensor(self.config.latents_mean, dtype=like.dtype, device=like.device)
        std = torch.tensor(self.config.latents_std, dtype=like.dtype, device=like.device)
        return mean.view(shape), std.view(shape)
