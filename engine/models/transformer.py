"""The Wan diffusion transformer, text-to-video: the network itself, one velocity prediction a call.

Written from the formulas of the official ``wan/modules/model.py``; parameter names are those of
``diffusion_pytorch_model.safetensors``. Matrix products run in the dtype of the weights (or of the surrounding
autocast). The residual stream, layer norms, modulation, gates, time path and head run in float32 as officially.

B batch, T frames, C channels, H height, W width of the latents; L video tokens, S text tokens, N heads,
D channels of a head, E = N*D channels of a token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes of one transformer, named as in ``config.json``; the defaults are the Wan 2.1 T2V-1.3B checkpoint's."""

    model_type: str = "t2v"
    dim: int = 1536
    ffn_dim: int = 8960
    freq_dim: int = 256
    num_heads: int = 12
    num_layers: int = 30
    in_dim: int = 16
    out_dim: int = 16
    text_len: int = 512
    text_dim: int = 4096
    eps: float = 1e-6
    patch_size: Grid = (1, 2, 2)

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.dim // self.num_heads

    def grid(self, latent_shape: Grid) -> Grid:
        """Tokens along time, height and width of latents of (T, H, W)."""
        frames, height, width = (size // patch for size, patch in zip(latent_shape, self.patch_size, strict=True))
        return frames, height, width


def keeps_float32(name: str) -> bool:
    """Whether the parameter called `name` is used in float32 whatever the model's dtype, and is best stored so."""
    return name.startswith(("time_", "head.")) or "norm" in name or "modulation" in name


def sinusoid(timestep: Tensor, channels: int) -> Tensor:
    """[B] timesteps in 0..1000 to [B, channels] float32: the cosines, then the sines, of t * 10000^(-i/half)."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / -half
    angles = timestep.double()[:, None] * torch.pow(10000.0, exponents)  # [B, half]
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


def axis_rotations(positions: int, channels: int) -> Tensor:
    """Unit complex numbers [positions, channels/2] of the angles pos * 10000^(-2i/channels), complex128."""
    exponents = torch.arange(0, channels, 2, dtype=torch.float64) / -channels
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), torch.pow(10000.0, exponents))
    return torch.polar(torch.ones_like(angles), angles)


def rope_table(grid: Grid, head_dim: int, device: torch.device) -> Tensor:
    """Rotations [L, 1, D/2] (complex64) of the tokens of `grid`, width fastest.

    The D/2 channel pairs are shared out among time, height and width; time takes what equal thirds leave over.
    """
    third = 2 * (head_dim // 6)
    frames, rows, columns = (
        axis_rotations(positions, channels).to(device, torch.complex64)
        for positions, channels in zip(grid, (head_dim - 2 * third, third, third), strict=True)
    )
    parts = (frames[:, None, None], rows[:, None], columns)  # [T, 1, 1, .], [H, 1, .], [W, .]
    table = torch.cat([part.expand(*grid, -1) for part in parts], dim=-1)  # [T, H, W, D/2]
    return table.flatten(0, 2)[:, None]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn each pair of adjacent channels of x [B, L, N, D] by rope [L, 1, D/2]; in float32, returned as float32."""
    pairs = torch.view_as_complex(torch.unflatten(x.float(), -1, (-1, 2)))
    return torch.view_as_real(pairs * rope).flatten(-2)  # [B, L, N, D]


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


class PatchEmbedding(nn.Conv3d):
    """Latents [B, C, T, H, W] to tokens [B, L, E], width fastest; stored as a convolution, run as one product."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.in_dim, config.dim, config.patch_size, stride=config.patch_size)
        self.config = config

    def forward(self, latents: Tensor) -> Tensor:
        b, c, *shape = latents.shape
        (t, h, w), (pt, ph, pw) = self.config.grid((shape[0], shape[1], shape[2])), self.config.patch_size
        patches = latents.to(self.weight.dtype).view(b, c, t, pt, h, ph, w, pw)
        patches = patches.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, t * h * w, c * pt * ph * pw)
        return F.linear(patches, self.weight.flatten(1), self.bias)


class Attention(nn.Module):
    """Multi-head attention whose queries and keys are RMS-normed over all heads together."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.q = nn.Linear(config.dim, config.dim)
        self.k = nn.Linear(config.dim, config.dim)
        self.v = nn.Linear(config.dim, config.dim)
        self.o = nn.Linear(config.dim, config.dim)
        self.norm_q = RmsNorm(config.dim, config.eps)
        self.norm_k = RmsNorm(config.dim, config.eps)

    def forward(self, x: Tensor, context: Tensor, rope: Tensor | None = None) -> Tensor:
        """Tokens x [B, L, E] attend to context [B, S, E]; `rope` [L, 1, D/2] turns both (self-attention only)."""
        q, k, v = (torch.unflatten(y, -1, (-1, self.head_dim)) for y in self._projections(x, context))  # [B, ., N, D]
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        q, k, v = (y.to(v.dtype).transpose(1, 2) for y in (q, k, v))  # [B, N, ., D]
        out = F.scaled_dot_product_attention(q, k, v)
        return self.o(out.transpose(1, 2).flatten(2))  # [B, L, E]

    def _projections(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.norm_q(self.q(x)), self.norm_k(self.k(context)), self.v(context)


class Block(nn.Module):
    """Self-attention, cross-attention to the text, feed-forward; the first and last shifted, scaled and gated."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)
        self.norm1 = Float32LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.self_attn = Attention(config)
        self.norm3 = Float32LayerNorm(config.dim, config.eps)
        self.cross_attn = Attention(config)
        self.norm2 = Float32LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, config.dim)
        )

    def forward(self, x: Tensor, text: Tensor, time: Tensor, rope: Tensor) -> Tensor:
        """x [B, L, E] float32, time [B, 6, E] float32; text [B, S, E] carries the dtype of the matrix products."""
        modulation = (self.modulation.float() + time).chunk(6, dim=1)  # each [B, 1, E]
        shift_attn, scale_attn, gate_attn, shift_ffn, scale_ffn, gate_ffn = modulation
        y = modulate(self.norm1(x), shift_attn, scale_attn).to(text.dtype)
        x = torch.addcmul(x, self.self_attn(y, y, rope), gate_attn)
        x = x + self.cross_attn(self.norm3(x).to(text.dtype), text)
        y = modulate(self.norm2(x), shift_ffn, scale_ffn).to(text.dtype)
        return torch.addcmul(x, self.ffn(y), gate_ffn)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift."""
    return torch.addcmul(shift, x, 1 + scale)


class Head(nn.Module):
    """Tokens to the values of their patches, the channels of one pixel side by side."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = Float32LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = Float32Linear(config.dim, prod(config.patch_size) * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, L, E] float32, time [B, E] before its projection, to [B, L, pt*ph*pw*out_dim] float32."""
        shift, scale = (self.modulation.float() + time[:, None]).chunk(2, dim=1)  # each [B, 1, E]
        return self.head(modulate(self.norm(x), shift, scale))


class WanTransformer(nn.Module):
    """Predicts the velocity (noise minus clean latents) of noisy latents under a text."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embedding = PatchEmbedding(config)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(Float32Linear(config.freq_dim, dim), nn.SiLU(), Float32Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), Float32Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)

    def forward(
        self, latents: Tensor, timestep: Tensor, text: Tensor, on_block: Callable[[int], None] | None = None
    ) -> Tensor:
        """The velocity [B, out_dim, T, H, W] in float32.

        latents [B, in_dim, T, H, W], sizes multiples of the patch. timestep [B] in 0..1000. text [B, S, text_dim]:
        the text encoder's rows, zero rows up to S = text_len; they are attended to like the others, as in training.
        `on_block(i)` is called after block i; what it raises leaves this call.
        """
        rope = rope_table(self._grid(latents), self.config.head_dim, latents.device)
        return self.velocity(latents, timestep, text, rope, on_block)

    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        rope: Tensor,
        on_block: Callable[[int], None] | None = None,
    ) -> Tensor:
        """As `forward`, of latents whose tokens stand where `rope` [L, 1, D/2] says."""
        time = self.time_embedding(sinusoid(timestep, self.config.freq_dim))  # [B, E]
        time_of_blocks = self.time_projection(time).unflatten(1, (6, -1))  # [B, 6, E]
        text = self.text_embedding(text.to(self.patch_embedding.weight.dtype))  # [B, S, E]
        x = self.patch_embedding(latents).float()  # [B, L, E]
        for i, block in enumerate(self.blocks):
            x = block(x, text, time_of_blocks, rope)
            if on_block is not None:
                on_block(i)
        return self._unpatchify(self.head(x, time), self._grid(latents))

    def _grid(self, latents: Tensor) -> Grid:
        return self.config.grid((latents.shape[2], latents.shape[3], latents.shape[4]))

    def _unpatchify(self, x: Tensor, grid: Grid) -> Tensor:
        x = torch.unflatten(torch.unflatten(x, 2, (*self.config.patch_size, self.config.out_dim)), 1, grid)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, T, pt, H, ph, W, pw]
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
