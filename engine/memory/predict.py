"""Predicts what the stages before sampling keep alive beside their weights: the dearest moment of one pass. Pure.

Bytes of live tensors, as `engine.memory.simulate` counts them; attention is taken to run fused, without its score
matrix, which all of torch's kernels for it do. What weights take, `engine.weights.card` knows; sampling and decoding
have their own, exact formulas in `engine.denoise.cost` and `engine.decode.cost`.
"""

import torch

from engine.decode.footprint import FLOAT32_BYTES
from engine.models.image_encoder import ImageEncoderConfig
from engine.models.text_encoder import TextEncoderConfig

INT64_BYTES = 8


def encoding_bytes(config: TextEncoderConfig, tokens: int, dtype: torch.dtype, prompts: int = 1) -> int:
    """What encoding prompts of at most `tokens` tokens each, block by block, takes beside the weights.

    The dearest moment is the tables of distances (a dozen numbers a pair of tokens), the bias by head and pair
    before and after masking, attention with the bias and what a card's kernel makes of it when the tokens are no
    multiple of eight, or, with the bias still there, the feed-forward with its three wide tensors. Meanwhile the other
    prompts wait.
    """
    width, pairs = dtype.itemsize, tokens**2
    stream = width * tokens * config.dim
    tables = 12 * FLOAT32_BYTES * pairs
    bias = width * config.num_heads * pairs
    attention = 2 * bias + 3 * stream + 4 * width * tokens * config.dim_attn
    feed_forward = bias + 3 * stream + 3 * width * tokens * config.dim_ffn
    moment = max(stream + tables, stream + 2 * bias, attention, feed_forward)
    return moment + (prompts - 1) * stream + 4 * prompts * INT64_BYTES * tokens


def image_encoding_bytes(config: ImageEncoderConfig, pictures: int, dtype: torch.dtype) -> int:
    """What encoding `pictures` together takes beside the weights.

    The dearest moment is attention with its three projections in one and apart, or the feed-forward with its wide layer
    before and after the GELU; at the start, the pictures as they are squashed.
    """
    width, tokens = dtype.itemsize, config.tokens
    stream = width * tokens * config.dim
    attention = 9 * stream
    feed_forward = 4 * stream + 2 * width * tokens * config.mlp_dim
    squashed = 4 * 3 * FLOAT32_BYTES * config.image_size**2
    return pictures * (max(attention, feed_forward) + squashed)
