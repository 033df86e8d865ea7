"""The umT5 text encoder: token ids in, one row of features a token out.

Written from the formulas of the official ``wan/modules/t5.py``; parameter names are those of
``models_t5_umt5-xxl-enc-bf16``. Matrix products run in the dtype of the weights, norms and softmax in float32.

B batch, L tokens, N heads, D channels of a head, E channels of a token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class TextEncoderConfig:
    """Sizes of one encoder; the defaults are those of umT5-xxl."""

    vocab_size: int = 256384
    dim: int = 4096
    dim_attn: int = 4096
    dim_ffn: int = 10240
    num_heads: int = 64
    num_layers: int = 24
    num_buckets: int = 32
    max_distance: int = 128
    eps: float = 1e-6


def distance_buckets(length: int, num_buckets: int, max_distance: int, device: torch.device) -> Tensor:
    """[L, L] bucket of the distance from query (row) to key (column).

    Half of the buckets are for keys after the query. Of each half the first half are single distances, the rest
    grow logarithmically up to `max_distance`, beyond which everything shares the last.
    """
    positions = torch.arange(length, device=device)
    distance = positions[None, :] - positions[:, None]
    per_side = num_buckets // 2
    exact = per_side // 2
    # The clamp keeps log(0) away; those entries are not chosen below.
    steps = torch.log(distance.abs().clamp(min=1) / exact) / log(max_distance / exact) * (per_side - exact)
    far = (exact + steps.long()).clamp(max=per_side - 1)
    return torch.where(distance.abs() < exact, distance.abs(), far) + per_side * (distance > 0)


def within_float16(x: Tensor) -> Tensor:
    """x, pulled back inside the range of float16 when it has overflowed there, as officially; else x."""
    if x.dtype != torch.float16:
        return x
    limit = torch.finfo(x.dtype).max - 1000
    return torch.where(x.isinf().any(), x.clamp(-limit, limit), x)


class RmsNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps) over the last dim in float32, rounded to the weight's dtype, times weight."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(self.weight.dtype) * self.weight


class RelativePositions(nn.Module):
    """A learnt bias for each head and each bucket of distances."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.max_distance = config.max_distance
        self.embedding = nn.Embedding(config.num_buckets, config.num_heads)

    def forward(self, length: int) -> Tensor:
        """Bias [1, N, L, L] of query (third) and key (fourth dim)."""
        weight = self.embedding.weight
        buckets = distance_buckets(length, weight.shape[0], self.max_distance, weight.device)
        return self.embedding(buckets).permute(2, 0, 1)[None]


class Attention(nn.Module):
    """Multi-head self-attention with an additive bias and, as in all T5, without the 1/sqrt(D) scale."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.k = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.v = nn.Linear(config.dim, config.dim_attn, bias=False)
        self.o = nn.Linear(config.dim_attn, config.dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, L, E], bias [B, N, L, L] added to the scores."""
        q, k, v = (
            torch.unflatten(layer(x), -1, (self.num_heads, -1)).transpose(1, 2)  # [B, N, L, D]
            for layer in (self.q, self.k, self.v)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(out.transpose(1, 2).flatten(2))  # [B, L, E]


class FeedForward(nn.Module):
    """fc2(fc1(x) * gelu(gate(x))) without biases."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(config.dim, config.dim_ffn, bias=False), nn.GELU(approximate="tanh"))
        self.fc1 = nn.Linear(config.dim, config.dim_ffn, bias=False)
        self.fc2 = nn.Linear(config.dim_ffn, config.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x) * self.gate(x))


class Block(nn.Module):
    """Self-attention and feed-forward, each behind its norm and added to its input; umT5 has a bias a layer."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.norm1 = RmsNorm(config.dim, config.eps)
        self.attn = Attention(config)
        self.norm2 = RmsNorm(config.dim, config.eps)
        self.ffn = FeedForward(config)
        self.pos_embedding = RelativePositions(config)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, L, E]; mask [B, 1, 1, L] true for the keys that count."""
        bias = self.pos_embedding(x.shape[1])
        bias = bias.masked_fill(~mask, torch.finfo(bias.dtype).min)  # [B, N, L, L]
        x = within_float16(x + self.attn(self.norm1(x), bias))
        return within_float16(x + self.ffn(self.norm2(x)))


class TextEncoder(nn.Module):
    """Token ids to features; rows of padding come out as zeros, the way the transformer was trained on them."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = RmsNorm(config.dim, config.eps)

    def forward(self, ids: Tensor, mask: Tensor, on_block: Callable[[int], None] | None = None) -> Tensor:
        """ids [B, L] integers, mask [B, L] nonzero for real tokens, to features [B, L, E].

        `on_block(i)` is called after block i; what it raises leaves this call.
        """
        real = mask.bool()
        x = self.token_embedding(ids)  # [B, L, E]
        for i, block in enumerate(self.blocks):
            x = block(x, real[:, None, None])
            if on_block is not None:
                on_block(i)
        return self.norm(x).masked_fill(~real[:, :, None], 0)
