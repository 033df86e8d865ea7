"""Predicts sampling cut one way: peak live bytes on the card, bytes that wait on the host, operations, copies. Pure.

A pass holds the weights, what the sampler keeps around it, the stream of tokens and the keys and values of one block.
Beside them is what one sublayer makes of one piece of tokens; the dearest such moment counts. Names as in
`engine.denoise.block_pieces`: l tokens of a piece, E channels of a token.
"""

from dataclasses import dataclass, replace
from math import prod

import torch

from engine.attention.workspace import AttentionSize
from engine.decode.footprint import FLOAT32_BYTES
from engine.denoise.footprint import (
    PieceShape,
    attention_moment,
    feed_forward_moment,
    modulation_moment,
    projection_moment,
    sum_moment,
)
from engine.denoise.pieces import Runs
from engine.generation import AttentionBackend
from engine.memory.block_swap import swapped_blocks, swapped_peak
from engine.models.rope import Grid
from engine.models.transformer import TransformerConfig
from engine.weights.card import NetworkBytes

PAST_TENSORS = 3  # that a solver keeps at most, each as large as the noisy latents
CACHED_TENSORS = 3  # that a step cache keeps of each pass: two latents that went in and what came out
MODULATION_ROWS = 6


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is sampled and with what, however it is cut.

    latent_size (T, h, w). dtype: of the products. batch: clips that go through the network together, two for joint
    guidance. passes: calls of the network a step, two for guidance in turn. image_tokens: of the image branch, 0 for
    none. runs: of tokens that share a time. beside_bytes: what else is on the card meanwhile.
    """

    config: TransformerConfig
    latent_size: Grid
    dtype: torch.dtype
    network: NetworkBytes
    attention: AttentionBackend = AttentionBackend.SDPA
    batch: int = 1
    passes: int = 1
    image_tokens: int = 0
    runs: int = 1
    step_cache: bool = False
    beside_bytes: int = 0

    @property
    def tokens(self) -> int:
        """Video tokens of one clip."""
        return prod(self.config.grid(self.latent_size))

    @property
    def blocks(self) -> int:
        """Blocks of the network."""
        return len(self.network.blocks)


@dataclass(frozen=True, slots=True)
class SamplingCost:
    """Bytes of live tensors on the card at most, and of blocks that wait outside it; copied_bytes and flop: a step."""

    peak_bytes: int
    host_bytes: int
    copied_bytes: int
    flop: int


def sampling_cost(sampling: Sampling, resident_blocks: int, chunk_tokens: int) -> SamplingCost:
    """What sampling takes with `resident_blocks` on the card and `chunk_tokens` in a piece."""
    network = sampling.network
    swapped = sum(network.blocks[i] for i in swapped_blocks(sampling.blocks, resident_blocks))
    return SamplingCost(
        peak_bytes=_peak(sampling, resident_blocks, chunk_tokens),
        host_bytes=swapped,
        copied_bytes=swapped * sampling.passes,
        flop=sampling.passes * pass_flop(sampling),
    )


def _peak(sampling: Sampling, resident_blocks: int, chunk_tokens: int) -> int:
    network, width = sampling.network, sampling.dtype.itemsize
    weights = network.shell + swapped_peak(network.blocks, resident_blocks)
    around = _latents(sampling) + _rows_given(sampling)
    before_stream = _time_and_text_moment(sampling)
    stream = sampling.batch * sampling.tokens * sampling.config.dim * (FLOAT32_BYTES + 2 * width)
    in_block = _held_in_pass(sampling) + stream + _block_moment(sampling, min(chunk_tokens, sampling.tokens))
    return weights + sampling.beside_bytes + max(network.loading, around + max(before_stream, in_block))


def _latents(sampling: Sampling) -> int:
    """All tensors of the sampler that are shaped like latents, float32.

    x and the solver's past, velocities of passes that are done, the clean frames of clips whose tokens have times of
    their own, the channels of a picture, and what goes into the network where that is not x itself.
    """
    config, batch = sampling.config, sampling.batch
    of_picture = config.in_dim - config.out_dim
    tensors = 1 + PAST_TENSORS + (sampling.passes - 1) + (1 if sampling.runs > 1 else 0)
    channels = config.out_dim * tensors + of_picture
    if of_picture or batch > 1:
        channels += config.in_dim * batch
    if sampling.step_cache:
        channels += config.out_dim * CACHED_TENSORS * batch * sampling.passes
    return FLOAT32_BYTES * channels * prod(sampling.latent_size)


def _rows_given(sampling: Sampling) -> int:
    """Rows of both prompts, and features of pictures; joined once more where passes go together."""
    config, batch = sampling.config, sampling.batch
    text = sampling.dtype.itemsize * config.text_len * config.text_dim
    image = FLOAT32_BYTES * sampling.image_tokens * config.image_dim
    joined = batch if batch > 1 else 0
    return text * (batch * sampling.passes + joined) + image * (1 + joined)


def _held_in_pass(sampling: Sampling) -> int:
    """What a pass is given in the form that blocks take, the same for all of them."""
    config, batch, width = sampling.config, sampling.batch, sampling.dtype.itemsize
    rows = width * batch * (config.text_len + sampling.image_tokens) * config.dim
    times = FLOAT32_BYTES * batch * sampling.runs * (1 + (1 + MODULATION_ROWS) * config.dim)
    rope = FLOAT32_BYTES * sampling.tokens * config.head_dim
    learnt = FLOAT32_BYTES * MODULATION_ROWS * config.dim
    return rows + times + rope + learnt


def _time_and_text_moment(sampling: Sampling) -> int:
    """Before there is a stream: a square weight of the times' path as float32, or a layer of the text's path."""
    config, batch = sampling.config, sampling.batch
    widened = FLOAT32_BYTES * config.dim**2
    text = sampling.dtype.itemsize * batch * config.text_len * 2 * config.dim
    image = 3 * FLOAT32_BYTES * batch * sampling.image_tokens * config.image_dim
    return _held_in_pass(sampling) + max(widened, text + sampling.network.work, image)


def _block_moment(sampling: Sampling, tokens: int) -> int:
    """The dearest moment inside a block, beside the stream and the keys and values of its tokens."""
    config, batch, backend = sampling.config, sampling.batch, sampling.attention
    width, work = sampling.dtype.itemsize, sampling.network.work
    rows = PieceShape(batch * max(config.text_len, sampling.image_tokens), config.dim, width, work)
    kept_rows = 2 * width * batch * (config.text_len + sampling.image_tokens) * config.dim
    piece = PieceShape(batch * tokens, config.dim, width, work)
    is_crossed = Runs(sampling.tokens, sampling.runs).are_crossed(tokens)
    to_tokens = AttentionSize(batch * config.num_heads, tokens, sampling.tokens, config.head_dim)
    to_rows = replace(to_tokens, keys=config.text_len)
    return kept_rows + max(
        projection_moment(rows),
        projection_moment(piece),
        modulation_moment(piece, crossed=is_crossed),
        attention_moment(piece, backend, to_tokens),
        attention_moment(piece, AttentionBackend.SDPA, to_rows),
        sum_moment(piece, crossed=is_crossed),
        feed_forward_moment(piece, config.ffn_dim),
    )


def pass_flop(sampling: Sampling) -> int:
    """Operations of one call of the network, two for each multiply-add, as FlopCounterMode counts them."""
    config, tokens = sampling.config, sampling.tokens
    dim, rows = config.dim, config.text_len + sampling.image_tokens
    of_token = 6 * dim**2 + 2 * dim * config.ffn_dim + 2 * dim * (tokens + rows)
    blocks = config.num_layers * (tokens * of_token + rows * 2 * dim**2)
    patch = prod(config.patch_size)
    ends = tokens * dim * patch * (config.in_dim + config.out_dim)
    times = sampling.runs * dim * (config.freq_dim + (1 + MODULATION_ROWS) * dim)
    text = config.text_len * dim * (config.text_dim + dim)
    image = sampling.image_tokens * config.image_dim * (config.image_dim + dim)
    return 2 * sampling.batch * (blocks + ends + times + text + image)


def block_values(config: TransformerConfig) -> int:
    """Weights of the products that tokens meet in one block."""
    return 6 * config.dim**2 + 2 * config.dim * config.ffn_dim
