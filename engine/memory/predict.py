"""Predicts what the stages before decoding keep alive beside their weights: the dearest moment of one pass. Pure.

Bytes of live tensors, as `engine.memory.simulate` counts them; attention is taken to run fused, without its score
matrix, which all of torch's kernels for it do. What weights take, `engine.weights.card` knows; decoding has its own,
exact formula in `engine.decode.cost`.
"""

from math import prod

import torch

from engine.decode.footprint import FLOAT32_BYTES
from engine.models.rope import Grid
from engine.models.text_encoder import TextEncoderConfig
from engine.models.transformer import TransformerConfig

INT64_BYTES = 8


def encoding_bytes(config: TextEncoderConfig, tokens: int, dtype: torch.dtype) -> int:
    """What encoding one prompt of at most `tokens` tokens takes beside the weights.

    The dearest moment is the tables of distances (a dozen numbers a pair of tokens), the bias by head and pair
    before and after masking, or, with the bias still there, attention or the feed-forward with its three wide tensors.
    """
    width, pairs = dtype.itemsize, tokens**2
    stream = width * tokens * config.dim
    tables = 12 * FLOAT32_BYTES * pairs
    bias = width * config.num_heads * pairs
    attention = bias + 3 * stream + 4 * width * tokens * config.dim_attn
    feed_forward = bias + 3 * stream + 3 * width * tokens * config.dim_ffn
    moment = max(stream + tables, stream + 2 * bias, attention, feed_forward)
    return moment + 4 * INT64_BYTES * tokens


def sampling_bytes(config: TransformerConfig, latent_size: Grid, dtype: torch.dtype) -> int:
    """What sampling latents of `latent_size` (T, h, w), one pass at a time, takes beside the weights."""
    tokens = prod(config.grid(latent_size))
    latents = FLOAT32_BYTES * config.in_dim * prod(latent_size)
    held = 6 * latents  # noisy latents, the solver's past, and the first pass's velocity
    rotations = FLOAT32_BYTES * tokens * config.head_dim
    texts = dtype.itemsize * config.text_len * (config.dim + 2 * config.text_dim)
    width = dtype.itemsize
    moment = max(_attention_moment(config, tokens, width), _feed_forward_moment(config, tokens, width))
    modulation = 48 * FLOAT32_BYTES * config.dim  # the time's vectors on their way through, and a block's own
    return held + rotations + texts + modulation + moment


def _attention_moment(config: TransformerConfig, tokens: int, width: int) -> int:
    """The stream, the normed tokens, v, and q and k in float32 before and after their rotation."""
    stream, q_and_k = FLOAT32_BYTES, 2 * FLOAT32_BYTES
    return tokens * config.dim * (stream + 2 * width + 2 * q_and_k)


def _feed_forward_moment(config: TransformerConfig, tokens: int, width: int) -> int:
    """The stream before and after attention, the normed tokens, and the wide layer before and after its GELU."""
    stream = 2 * FLOAT32_BYTES
    return tokens * (config.dim * (stream + width) + 2 * config.ffn_dim * width)
