"""The sizes of the decoder's layers after the stem, as `strip_network` lists the layers themselves. Pure."""

from collections.abc import Iterator
from itertools import pairwise

from engine.decode.footprint import ConvShape, HeadShape, LayerShape, ResidualShape, StageShape, UpsampleShape
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config


def layer_shapes(config: VideoVaeConfig, latent_width: int) -> tuple[LayerShape, ...]:
    """The layers after the stem, in order, for latents of `latent_width` columns."""
    make = _in_stages if isinstance(config, VideoVae22Config) else _in_a_row
    return tuple(make(config, latent_width))


def _widths(config: VideoVaeConfig) -> list[int]:
    """Channels before the first stage and after every one."""
    mult = config.dim_mult[::-1]
    return [config.decoder_dim * m for m in (mult[0], *mult)]


def _head(config: VideoVaeConfig, width: int, factor: int) -> HeadShape:
    return HeadShape(ConvShape(_widths(config)[-1], config.picture_channels, width, factor), config.patch_size)


def _residuals(config: VideoVaeConfig, c_in: int, c_out: int, width: int, factor: int) -> list[ResidualShape]:
    """The residual blocks of a stage, of which the first changes the width."""
    usual = ConvShape(c_out, c_out, width, factor)
    first = ResidualShape(ConvShape(c_in, c_out, width, factor), usual)
    return [first, *[ResidualShape(usual, usual)] * config.num_res_blocks]


def _in_a_row(config: VideoVaeConfig, width: int) -> Iterator[LayerShape]:
    """Wan 2.1: the first stage belongs to the stem; every later one begins where an upsampler halved the channels."""
    temporal, factor = config.temporal_downsample[::-1], 1
    for stage, (c_before, c_out) in enumerate(pairwise(_widths(config))):
        if stage:
            doubles = temporal[stage - 1]
            yield UpsampleShape(c_before, c_before // 2, width, factor, doubles)
            width, factor = 2 * width, factor * (2 if doubles else 1)
            yield from _residuals(config, c_before // 2, c_out, width, factor)
    yield _head(config, width, factor)


def _in_stages(config: VideoVaeConfig, width: int) -> Iterator[LayerShape]:
    """Wan 2.2: stages with a shortcut around them, but for the last, which has no upsampler either."""
    factor = 1
    widths = list(pairwise(_widths(config)))
    for (c_in, c_out), doubles in zip(widths[:-1], config.temporal_downsample[::-1], strict=True):
        upsampler = UpsampleShape(c_out, c_out, width, factor, doubles)
        residuals = _residuals(config, c_in, c_out, width, factor)
        yield StageShape((*residuals, upsampler), c_in, c_out, width, factor)
        width, factor = 2 * width, factor * (2 if doubles else 1)
    yield from _residuals(config, *widths[-1], width, factor)
    yield _head(config, width, factor)
