"""The layers that the Wan diffusion transformer is made of: norms, attention, modulation, the image embedding.

Written from the formulas of the official ``wan/modules/model.py``; parameter names are its own. Matrix products run
in the dtype of the weights (or of the surrounding autocast), the layers called Float32 in float32 as officially.

B batch, L video tokens, S text rows, I image tokens, N heads, D channels of a head, E = N*D channels of a token;
G runs of L/G consecutive tokens each, a run being the tokens that share one time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.rope import rotate


class Float32Linear(nn.Linear):
    """A linear layer of the float32 islands: float32 in and out, also under autocast and with smaller weights."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            bias = None if self.bias is None else self.bias.float()
            return F.linear(x.float(), self.weight.float(), bias)


class Float32LayerNorm(nn.LayerNorm):
    """Layer norm over the last dim in float32, with or without weights."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.elementwise_affine:
            return F.layer_norm(x.float(), self.normalized_shape, eps=self.eps)
        return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)


class RmsNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps) over the last dim in float32, rounded to x's dtype, then times weight."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), (x.shape[-1],), eps=self.eps).to(x.dtype) * self.weight


def in_runs(x: Tensor, runs: int) -> Tensor:
    """Tokens x [B, L, E] as [B, G, L/G, E], so that what is given for each of G runs meets the tokens it is for."""
    return torch.unflatten(x, 1, (runs, -1))  # [B, G, L/G, E]


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift of tokens x [B, L, E], both [B, G, 1, E]."""
    return torch.addcmul(shift, in_runs(x, scale.shape[1]), 1 + scale).flatten(1, 2)  # [B, L, E]


def add_gated(x: Tensor, y: Tensor, gate: Tensor) -> Tensor:
    """x + y * gate of tokens x, y [B, L, E], gate [B, G, 1, E]."""
    runs = gate.shape[1]
    return torch.addcmul(in_runs(x, runs), in_runs(y, runs), gate).flatten(1, 2)  # [B, L, E]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What queries q [B, L, N, D] gather from k, v [B, ., N, D], the heads side by side: [B, L, E] in v's dtype."""
    q, k, v = (y.to(v.dtype).transpose(1, 2) for y in (q, k, v))  # [B, N, ., D]
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [B, L, E]


class Attention(nn.Module):
    """The projections of multi-head attention; queries and keys are RMS-normed over all heads together."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.head_dim = dim // num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = RmsNorm(dim, eps)
        self.norm_k = RmsNorm(dim, eps)

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (-1, self.head_dim))  # [B, ., N, D]

    def _query(self, x: Tensor) -> Tensor:
        return self._heads(self.norm_q(self.q(x)))  # [B, L, N, D]

    def _key_and_value(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return self._heads(self.norm_k(self.k(context))), self._heads(self.v(context))  # [B, ., N, D] each


class SelfAttention(Attention):
    """Attention of all tokens to all, queries and keys turned by where they stand."""

    def forward(self, x: Tensor, rope: Tensor) -> Tensor:
        """Tokens x [B, L, E], `rope` [L, 1, D/2]."""
        q, (k, v) = self._query(x), self._key_and_value(x)
        q, k = rotate(q, rope), rotate(k, rope)
        q, k = q.to(v.dtype), k.to(v.dtype)  # here, where nothing else holds the float32 ones
        return self.o(attend(q, k, v))


class CrossAttention(Attention):
    """Attention to the text and, with the image branch, also to image tokens by keys and values of their own."""

    def __init__(self, dim: int, num_heads: int, eps: float, *, has_image_branch: bool) -> None:
        super().__init__(dim, num_heads, eps)
        if has_image_branch:
            self.k_img = nn.Linear(dim, dim)
            self.v_img = nn.Linear(dim, dim)
            self.norm_k_img = RmsNorm(dim, eps)

    def forward(self, x: Tensor, text: Tensor, image: Tensor | None = None) -> Tensor:
        """Tokens x [B, L, E] attend to text [B, S, E] and image [B, I, E], each with a softmax of its own."""
        q = self._query(x)
        out = attend(q, *self._key_and_value(text))
        if image is not None:
            out = out + attend(q, *self._image_key_and_value(image))
        return self.o(out)

    def _image_key_and_value(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self._heads(self.norm_k_img(self.k_img(image))), self._heads(self.v_img(image))  # [B, I, N, D] each


class ImageEmbedding(nn.Module):
    """Features of one or more images to the tokens that the blocks attend to.

    With `positions` the tokens of the images, one image after the other, are told apart by a learnt embedding.
    """

    def __init__(self, channels: int, dim: int, positions: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            Float32LayerNorm(channels), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, dim),
            Float32LayerNorm(dim),
        )  # fmt: skip
        self.emb_pos = nn.Parameter(torch.zeros(1, positions, channels)) if positions else None

    def forward(self, features: Tensor, dtype: torch.dtype) -> Tensor:
        """features [B, I, channels], at most as many tokens as positions, to [B, I, E] in `dtype`."""
        first_norm, first, gelu, last, last_norm = self.proj
        x = features.float()
        if self.emb_pos is not None:
            x = x + self.emb_pos[:, : x.shape[1]].float()
        x = last(gelu(first(first_norm(x).to(dtype))))
        return last_norm(x).to(dtype)
