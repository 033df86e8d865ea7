"""The sizes of the encoder's layers before the middle, as `strip_network` lists the layers themselves. Pure."""

from collections.abc import Iterator
from itertools import pairwise

from engine.decode.footprint import ConvShape, ResidualShape
from engine.encode.footprint import BlockShape, DownsampleShape, DownStageShape, EntryShape, LayerShape
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config


def layer_shapes(config: VideoVaeConfig, width: int) -> tuple[LayerShape, ...]:
    """The layers before the middle, in order, for pictures of `width` columns."""
    return tuple(_layers(config, width // config.patch_size))


def _layers(config: VideoVaeConfig, width: int) -> Iterator[LayerShape]:
    factor = config.temporal_factor
    widths = [config.dim * m for m in (1, *config.dim_mult)]
    yield EntryShape(ConvShape(config.picture_channels, widths[0], width, factor), config.patch_size)
    # The last stage does not halve anything.
    for (c_in, c_out), halves_frames in zip(pairwise(widths), (*config.temporal_downsample, None), strict=True):
        layers: list[BlockShape | DownsampleShape] = [*_blocks(config, c_in, c_out, width, factor)]
        if halves_frames is not None:
            layers.append(DownsampleShape(c_out, width, factor, halves_frames))
        if isinstance(config, VideoVae22Config):
            yield DownStageShape(tuple(layers), c_in, c_out, width, factor)
        else:
            yield from layers
        width, factor = width // 2, factor // (2 if halves_frames else 1)


def _blocks(config: VideoVaeConfig, c_in: int, c_out: int, width: int, factor: int) -> list[BlockShape]:
    """The residual blocks of a stage, of which the first changes the width."""
    usual = ConvShape(c_out, c_out, width, factor)
    first = ResidualShape(ConvShape(c_in, c_out, width, factor), usual)
    return [BlockShape(first), *[BlockShape(ResidualShape(usual, usual))] * (config.num_res_blocks - 1)]
