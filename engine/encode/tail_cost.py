"""What the tail of the encode costs, in closed form. Pure; the formulas follow `tail` line by line."""

from engine.decode.footprint import FLOAT32_BYTES, PAST_FRAMES, WINDOW, ConvShape
from engine.decode.rows import LayerRows
from engine.decode.stem_cost import stem_live
from engine.models.video_vae import VideoVaeConfig

CONVS = 5  # two residual blocks of two, and the head's


def tail_channels(config: VideoVaeConfig) -> int:
    """Channels of the tail's input."""
    return config.dim * config.dim_mult[-1]


def tail_caches(config: VideoVaeConfig, pixels: int) -> int:
    """Elements that the tail's convolutions keep between two latent frames of `pixels` latent pixels."""
    return CONVS * tail_cache(config, pixels)


def tail_cache(config: VideoVaeConfig, pixels: int) -> int:
    """The part of `tail_caches` that one convolution keeps."""
    return PAST_FRAMES * tail_channels(config) * pixels


def tail_live(config: VideoVaeConfig, height: int, width: int, size: int) -> int:
    """Most bytes alive on the card while one latent frame runs, without weights.

    The blocks are those of the stem of a decoder as wide as the encoder.
    """
    as_wide = VideoVaeConfig(dim=config.dim, dim_mult=config.dim_mult)
    return max(stem_live(as_wide, height, width, size, caches_on_card=False), size * _head_live(config, height, width))


def latents_made_on_host(config: VideoVaeConfig) -> int:
    """Bytes of the mean and deviation of the latents' channels."""
    return 2 * FLOAT32_BYTES * config.z_dim


def tail_multiply_adds(config: VideoVaeConfig, pixels: int, frames: int) -> int:
    """Operations of the tail: residual blocks, attention, head, `conv1`."""
    c, moments = tail_channels(config), 2 * config.z_dim
    per_pixel = 4 * WINDOW * c * c + 4 * c * c + WINDOW * c * moments + moments * moments
    return frames * (per_pixel * pixels + 2 * pixels * pixels * c)


def _head_live(config: VideoVaeConfig, height: int, width: int) -> int:
    """The head's input, its window and its norm or its result, then the result and that of `conv1`."""
    conv, rows = ConvShape(tail_channels(config), 2 * config.z_dim, width, 1), LayerRows.of_whole(height)
    x = conv.c_in * height * width
    result = conv.result(rows, 1)
    return max(x + conv.buffer(rows, 1) + max(conv.norm(rows, 1), result), 2 * result)
