"""What the stem of the decode costs, in closed form. Pure; the formulas follow `stem` and `attention` line by line."""

from engine.decode.attention import MAX_SCORES, block_size
from engine.decode.footprint import FLOAT32_BYTES, PAST_FRAMES, WINDOW, ChunkKind, ConvShape, ResidualShape
from engine.decode.rows import LayerRows
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config

A_FRAME = ChunkKind(latents=1, index=1, last=False)


def stem_channels(config: VideoVaeConfig) -> int:
    """Channels of the stem's output."""
    return config.decoder_dim * config.dim_mult[-1]


def stem_blocks(config: VideoVaeConfig) -> int:
    """Residual blocks of the stem: two around the attention, then the first stage's, unless a shortcut spans them."""
    return 2 if isinstance(config, VideoVae22Config) else 2 + config.num_res_blocks + 1


def stem_caches(config: VideoVaeConfig, pixels: int) -> int:
    """Elements that the stem's convolutions keep between two latent frames of `pixels` latent pixels."""
    blocks = stem_blocks(config) * stage_cache(config, pixels)
    return PAST_FRAMES * config.z_dim * pixels + blocks


def stage_cache(config: VideoVaeConfig, pixels: int) -> int:
    """The part of `stem_caches` that one residual block keeps."""
    return 2 * PAST_FRAMES * stem_channels(config) * pixels


def stem_live(config: VideoVaeConfig, height: int, width: int, size: int, *, caches_on_card: bool) -> int:
    """Most bytes alive on the card while one latent frame runs, without weights and without what the caches held.

    Caches on the card are counted as they are stored anew: the old ones go at the end of a block.
    """
    return max(
        size * _residual_live(config, height, width, caches_on_card=caches_on_card),
        _attention_live(stem_channels(config), height * width, size),
    )


def _residual_live(config: VideoVaeConfig, height: int, width: int, *, caches_on_card: bool) -> int:
    conv = ConvShape(stem_channels(config), stem_channels(config), width, 1)
    shape, rows = ResidualShape(conv, conv), (LayerRows.of_whole(height),) * 2
    stored = shape.time_slots(rows, A_FRAME, corner=False) if caches_on_card else (0, 0, 0)
    return max(live + sum(stored[:done]) for live, done in shape.moments(rows, A_FRAME))


def _attention_live(channels: int, tokens: int, size: int) -> int:
    """In bytes: the input and its norm in two steps, then with q, k and v, or those with the result and one block."""
    frame = size * channels * tokens
    norm = 3 * frame + size * (tokens + channels)
    queries = tokens if tokens**2 <= MAX_SCORES else block_size(tokens)
    return max(norm, 5 * frame, 5 * frame + _block_live(channels, queries, block_size(tokens), size))


def _block_live(channels: int, queries: int, keys: int, size: int) -> int:
    """Bytes of one block: scaled queries, running sums, scores, and the keys or values where they must be widened."""
    widened = 0 if size == FLOAT32_BYTES else channels * max(queries, keys)
    per_query = 6 * queries  # highest scores and weights, old and new
    return FLOAT32_BYTES * (2 * channels * queries + queries * keys + per_query + widened)


def stem_multiply_adds(config: VideoVaeConfig, pixels: int, frames: int) -> int:
    """Operations of the stem: 1x1 and 3x3x3 convolutions, residual blocks, attention."""
    c, z = stem_channels(config), config.z_dim
    per_pixel = z * z + WINDOW * z * c + stem_blocks(config) * 2 * WINDOW * c * c + 4 * c * c
    return frames * (per_pixel * pixels + 2 * pixels * pixels * c)
