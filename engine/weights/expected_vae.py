"""Names and shapes of the parameters of both video VAEs, as functions of their sizes. Pure and torch-free."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from engine.weights.expected import Shape, Shapes

# A tensor that the VAE of Wan 2.2 has and that of 2.1 has not: its stages are modules of their own.
STAGED_MARK = "decoder.upsamples.0.upsamples.0.residual.2.weight"
ENCODER_LAYER = re.compile(r"encoder\.downsamples\.\d+\.(?:downsamples\.\d+\.)?")


@dataclass(frozen=True, slots=True)
class VaeSizes:
    """Sizes of a VAE.

    decoder_dim: the width that the decoder's widths are multiples of, as `dim` is for the encoder. staged: of Wan 2.2.
    picture_channels: those of one value of the finest grid, 3 for each pixel in it.
    """

    dim: int
    decoder_dim: int
    z_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    picture_channels: int
    staged: bool


def vae_sizes(stored: Mapping[str, Shape]) -> VaeSizes:
    """The sizes that `stored` tensors show. Raises KeyError, ValueError, IndexError or ZeroDivisionError."""
    dim, picture_channels = stored["encoder.conv1.weight"][:2]
    widths: list[int] = []
    blocks, temporal = [0], []
    for prefix in _encoder_layers(stored):
        if f"{prefix}resample.1.weight" in stored:
            temporal.append(f"{prefix}time_conv.weight" in stored)
            blocks.append(0)
        else:
            widths[len(temporal) :] = [stored[f"{prefix}residual.6.weight"][0]]
            blocks[-1] += 1
    dim_mult = tuple(width // dim for width in widths)
    return VaeSizes(
        dim=dim,
        decoder_dim=stored["decoder.conv1.weight"][0] // dim_mult[-1],
        z_dim=stored["conv2.weight"][0],
        dim_mult=dim_mult,
        num_res_blocks=blocks[0],
        temporal_downsample=tuple(temporal),
        picture_channels=picture_channels,
        staged=STAGED_MARK in stored,
    )


def _encoder_layers(stored: Mapping[str, Shape]) -> list[str]:
    """What the names of each layer's tensors begin with, in the order in which the layers run."""
    prefixes = {match[0] for name in stored if (match := ENCODER_LAYER.match(name))}
    if not prefixes:
        raise KeyError("encoder.downsamples")
    return sorted(prefixes, key=lambda prefix: [int(number) for number in re.findall(r"\d+", prefix)])


def vae_shapes(sizes: VaeSizes) -> Shapes:
    """Every parameter of a VAE of either kind."""
    up_mult = sizes.dim_mult[::-1]
    encoder_widths = [sizes.dim * factor for factor in (1, *sizes.dim_mult)]
    decoder_widths = [sizes.decoder_dim * factor for factor in (up_mult[0], *up_mult)]
    shapes = _conv("conv1", 2 * sizes.z_dim, 2 * sizes.z_dim, (1, 1, 1))
    shapes |= _conv("conv2", sizes.z_dim, sizes.z_dim, (1, 1, 1))
    shapes |= _half("encoder", sizes.picture_channels, encoder_widths[0], encoder_widths[-1], 2 * sizes.z_dim)
    shapes |= _half("decoder", sizes.z_dim, decoder_widths[0], decoder_widths[-1], sizes.picture_channels)
    shapes |= _middle("encoder.middle", encoder_widths[-1]) | _middle("decoder.middle", decoder_widths[0])
    for name, layer in _named("encoder.downsamples", "downsamples", _down(sizes, encoder_widths), sizes.staged):
        shapes |= {f"{name}.{suffix}": shape for suffix, shape in layer.items()}
    for name, layer in _named("decoder.upsamples", "upsamples", _up(sizes, decoder_widths), sizes.staged):
        shapes |= {f"{name}.{suffix}": shape for suffix, shape in layer.items()}
    return shapes


def _conv(name: str, c_in: int, c_out: int, kernel: Shape) -> Shapes:
    return {f"{name}.weight": (c_out, c_in, *kernel), f"{name}.bias": (c_out,)}


def _half(name: str, c_in: int, width: int, last_width: int, c_out: int) -> Shapes:
    ends = _conv(f"{name}.conv1", c_in, width, (3, 3, 3)) | _conv(f"{name}.head.2", last_width, c_out, (3, 3, 3))
    return {**ends, f"{name}.head.0.gamma": (last_width, 1, 1, 1)}


def _middle(name: str, width: int) -> Shapes:
    shapes: Shapes = {f"{name}.1.norm.gamma": (width, 1, 1)}
    shapes |= _conv(f"{name}.1.to_qkv", width, 3 * width, (1, 1)) | _conv(f"{name}.1.proj", width, width, (1, 1))
    for index in (0, 2):
        shapes |= {f"{name}.{index}.{suffix}": shape for suffix, shape in _residual(width, width).items()}
    return shapes


def _residual(c_in: int, c_out: int) -> Shapes:
    shapes: Shapes = {"residual.0.gamma": (c_in, 1, 1, 1), "residual.3.gamma": (c_out, 1, 1, 1)}
    shapes |= _conv("residual.2", c_in, c_out, (3, 3, 3)) | _conv("residual.6", c_out, c_out, (3, 3, 3))
    return shapes | (_conv("shortcut", c_in, c_out, (1, 1, 1)) if c_in != c_out else {})


def _down(sizes: VaeSizes, widths: list[int]) -> Iterator[list[Shapes]]:
    """The layers of each of the encoder's stages."""
    for (c_in, c_out), temporal in zip(pairwise(widths), (*sizes.temporal_downsample, None), strict=True):
        layers = [_residual(c_in if block == 0 else c_out, c_out) for block in range(sizes.num_res_blocks)]
        if temporal is not None:
            time = _conv("time_conv", c_out, c_out, (3, 1, 1)) if temporal else {}
            layers.append(_conv("resample.1", c_out, c_out, (3, 3)) | time)
        yield layers


def _up(sizes: VaeSizes, widths: list[int]) -> Iterator[list[Shapes]]:
    """The layers of each of the decoder's stages; an upsampler halves the width unless stages are modules."""
    upsamples = (*sizes.temporal_downsample[::-1], None)
    for index, ((c_before, c_out), temporal) in enumerate(zip(pairwise(widths), upsamples, strict=True)):
        c_in = c_before if index == 0 or sizes.staged else c_before // 2
        layers = [_residual(c_in if block == 0 else c_out, c_out) for block in range(sizes.num_res_blocks + 1)]
        if temporal is not None:
            time = _conv("time_conv", c_out, 2 * c_out, (3, 1, 1)) if temporal else {}
            layers.append(_conv("resample.1", c_out, c_out if sizes.staged else c_out // 2, (3, 3)) | time)
        yield layers


def _named(name: str, inner: str, stages: Iterator[list[Shapes]], staged: bool) -> Iterator[tuple[str, Shapes]]:
    """Each layer with its name: counted through all stages, or inside each where stages are modules."""
    count = 0
    for number, layers in enumerate(stages):
        for index, layer in enumerate(layers):
            yield f"{name}.{number}.{inner}.{index}" if staged else f"{name}.{count}", layer
            count += 1
