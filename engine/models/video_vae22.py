"""The Wan 2.2 video VAE: the layers of `video_vae` in stages with parameter-free shortcuts, on 2x2 patches of pixels.

Written from the formulas of the official ``wan/modules/vae2_2.py``; parameter names are those of
``Wan2.2_VAE.pth``. As in `video_vae` the forms are those of whole sequences. The official chunks, one frame alone and
then as many as a latent frame stands for, give the same: `avg_down` and `dup_up` say why for the two shortcuts.

B batch, T frames, C channels, H height, W width; ft, fs factors in time and in space, F = ft*fs*fs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.video_vae import Decoder, Downsample, Encoder, ResidualBlock, Upsample, VideoVae, VideoVaeConfig


class Factors(NamedTuple):
    """How many times fewer (or more) frames after the first, and rows and columns, a stage gives than it takes."""

    time: int
    space: int

    @property
    def volume(self) -> int:
        """Values of the fine grid for one of the coarse grid."""
        return self.time * self.space**2


def stage_factors(temporal: Iterable[bool]) -> list[Factors]:
    """Every stage resamples, in time where `temporal` says so, and the last does not."""
    return [*(Factors(2 if in_time else 1, 2) for in_time in temporal), Factors(1, 1)]


@dataclass(frozen=True, slots=True)
class VideoVae22Config(VideoVaeConfig):
    """Sizes and latent statistics of one VAE; the defaults are the Wan 2.2 checkpoint's.

    Raises ValueError for widths whose shortcuts cannot give every channel the same share.
    """

    dim: int = 160
    z_dim: int = 48
    latents_mean: tuple[float, ...] = (
        -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557,
        -0.1382, 0.0542, 0.2813, 0.0891, 0.157, -0.0098, 0.0375, -0.1825,
        -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502,
        -0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.123,
        -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052, 0.3748,
        0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
    )  # fmt: skip
    latents_std: tuple[float, ...] = (
        0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013,
        0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978,
        0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659,
        0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093,
        0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
        0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
    )  # fmt: skip
    decoder_dim: int = 256
    patch_size: int = 2

    def __post_init__(self) -> None:
        down = zip(pairwise((1, *self.dim_mult)), stage_factors(self.temporal_downsample), strict=True)
        uneven = [f"down {c_in} to {c_out}" for (c_in, c_out), f in down if c_in * f.volume % c_out]
        # Going up, the first stage keeps its width and the last has no shortcut.
        factors = stage_factors(self.temporal_downsample[::-1])[1:-1]
        up = zip(pairwise(self.dim_mult[:0:-1]), factors, strict=True)
        uneven += [f"up {c_in} to {c_out}" for (c_in, c_out), f in up if c_out * f.volume % c_in]
        if uneven:
            raise ValueError(f"widths that do not divide: {', '.join(uneven)}")

    @property
    def picture_channels(self) -> int:
        """Channels of a patch of pixels."""
        return 3 * self.patch_size**2

    @property
    def spatial_factor(self) -> int:
        """Pixels per latent row and column."""
        return self.patch_size * 2 ** (len(self.dim_mult) - 1)


def patchify(x: Tensor, size: int) -> Tensor:
    """[B, C, T, H, W] -> [B, C*size*size, T, H/size, W/size], channel (c*size + column in patch)*size + row in it."""
    x = x.unflatten(4, (-1, size)).unflatten(3, (-1, size))  # [B, C, T, H', row, W', column]
    return x.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)


def unpatchify(x: Tensor, size: int) -> Tensor:
    """The inverse of `patchify`."""
    x = x.unflatten(1, (-1, size, size))  # [B, C, column, row, T, H', W']
    return x.permute(0, 1, 4, 5, 3, 6, 2).flatten(5, 6).flatten(3, 4)


def avg_down(x: Tensor, c_out: int, factors: Factors) -> Tensor:
    """Means over runs of channels of the fine grid: [B, C, T, H, W] -> [B, c_out, ceil(T/ft), H/fs, W/fs].

    Channels and places in a cell of ft x fs x fs values form one axis, places fastest; every output channel is the
    mean of C*F/c_out neighbours on it. Zero frames in front fill T to a multiple of ft. Of the official chunks only
    the first, one frame, needs them; so does the whole sequence of 1+ft*n frames, and as many, in the same place.
    """
    ft, fs = factors
    x = F.pad(x, (0, 0, 0, 0, -x.shape[2] % ft, 0))
    x = x.unflatten(4, (-1, fs)).unflatten(3, (-1, fs)).unflatten(2, (-1, ft))  # [B, C, T', ft, H', fs, W', fs]
    x = x.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4)  # [B, C*F, T', H', W']
    return x.unflatten(1, (c_out, -1)).mean(dim=2)


def dup_up(x: Tensor, c_out: int, factors: Factors, *, first_chunk: bool) -> Tensor:
    """Copies onto the fine grid: [B, C, T, H, W] -> [B, c_out, T*ft, H*fs, W*fs].

    Output channels and places in a cell form one axis, places fastest, on which every input channel is repeated
    c_out*F/C times. With `first_chunk` the first ft-1 frames are dropped: x begins with the frame that stands for one
    frame alone. No output frame depends on another, so a whole sequence is a first chunk of many frames.
    """
    ft, fs = factors
    x = x.repeat_interleave(c_out * factors.volume // x.shape[1], dim=1)  # [B, c_out*F, T, H, W]
    x = x.unflatten(1, (c_out, ft, fs, fs)).permute(0, 1, 5, 2, 6, 3, 7, 4)  # [B, c_out, T, ft, H, fs, W, fs]
    x = x.flatten(6, 7).flatten(4, 5).flatten(2, 3)  # [B, c_out, T*ft, H*fs, W*fs]
    return x[:, :, ft - 1 :] if first_chunk else x


class AvgDown(nn.Module):
    """`avg_down` as the shortcut of a stage."""

    def __init__(self, c_out: int, factors: Factors) -> None:
        super().__init__()
        self.c_out = c_out
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        return avg_down(x, self.c_out, self.factors)


class DupUp(nn.Module):
    """`dup_up` as the shortcut of a stage."""

    def __init__(self, c_out: int, factors: Factors) -> None:
        super().__init__()
        self.c_out = c_out
        self.factors = factors

    def forward(self, x: Tensor, *, first_chunk: bool = True) -> Tensor:
        return dup_up(x, self.c_out, self.factors, first_chunk=first_chunk)


class DownStage(nn.Module):
    """Residual blocks and, but for the last stage, a downsampler; added to the means of the input."""

    def __init__(self, c_in: int, c_out: int, blocks: int, factors: Factors) -> None:
        super().__init__()
        layers: list[nn.Module] = residual_blocks(c_in, c_out, blocks)
        if factors.space > 1:
            layers.append(Downsample(c_out, temporal=factors.time > 1))
        self.downsamples = nn.Sequential(*layers)
        self.avg_shortcut = AvgDown(c_out, factors)

    def forward(self, x: Tensor) -> Tensor:
        return self.downsamples(x) + self.avg_shortcut(x)


class UpStage(nn.Module):
    """Residual blocks and an upsampler, added to copies of the input; the last stage has neither of the two."""

    def __init__(self, c_in: int, c_out: int, blocks: int, factors: Factors) -> None:
        super().__init__()
        layers: list[nn.Module] = residual_blocks(c_in, c_out, blocks)
        self.avg_shortcut: DupUp | None = None
        if factors.space > 1:
            layers.append(Upsample(c_out, c_out, temporal=factors.time > 1))
            self.avg_shortcut = DupUp(c_out, factors)
        self.upsamples = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out = self.upsamples(x)
        return out if self.avg_shortcut is None else out + self.avg_shortcut(x)


def residual_blocks(c_in: int, c_out: int, count: int) -> list[nn.Module]:
    """`count` residual blocks, of which the first changes the width."""
    return [ResidualBlock(c_in if block == 0 else c_out, c_out) for block in range(count)]


class Encoder22(Encoder):
    """Patches [B, 12, T, H/2, W/2] to moments [B, 2z, 1+(T-1)//4, H/16, W/16] (default sizes)."""

    @staticmethod
    def _stages(config: VideoVaeConfig, widths: list[int]) -> Iterator[nn.Module]:
        for (c_in, c_out), factors in zip(pairwise(widths), stage_factors(config.temporal_downsample), strict=True):
            yield DownStage(c_in, c_out, config.num_res_blocks, factors)


class Decoder22(Decoder):
    """Latents [B, z, T, h, w] to patches [B, 12, 4T-3, 8h, 8w] (default sizes), not clamped."""

    @staticmethod
    def _stages(config: VideoVaeConfig, widths: list[int]) -> Iterator[nn.Module]:
        temporal = config.temporal_downsample[::-1]
        for (c_in, c_out), factors in zip(pairwise(widths), stage_factors(temporal), strict=True):
            yield UpStage(c_in, c_out, config.num_res_blocks + 1, factors)


class VideoVae22(VideoVae):
    """As `VideoVae`, with both halves in stages and patches of pixels for pixels between them and the picture."""

    def __init__(self, config: VideoVae22Config) -> None:
        super().__init__(config, Encoder22, Decoder22)
        self.patch_size = config.patch_size

    def moments(self, video: Tensor) -> Tensor:
        """Mean and log variance of the latents, [B, 2z, T', h, w]; T must be 4n+1 (default sizes)."""
        return super().moments(patchify(video, self.patch_size))

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [B, z, T', h, w] to video [B, 3, T, H, W], whole and not clamped."""
        return unpatchify(super().decode(latents), self.patch_size)


def vae_of(config: VideoVaeConfig) -> VideoVae:
    """The network that `config` gives the sizes of."""
    return VideoVae22(config) if isinstance(config, VideoVae22Config) else VideoVae(config)
