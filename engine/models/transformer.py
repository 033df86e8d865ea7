"""The Wan diffusion transformers, all of 2.1 and 2.2: the network itself, one velocity prediction a call.

Written from the formulas of the official ``wan/modules/model.py``; parameter names are those of
``diffusion_pytorch_model.safetensors``. Matrix products run in the dtype of the weights (or of the surrounding
autocast). The residual stream, layer norms, modulation, gates, time path and head run in float32 as officially.

B batch, T frames, C channels, H height, W width of the latents; L video tokens, S text rows, I image tokens, N heads,
D channels of a head, E = N*D channels of a token; G runs of L/G consecutive tokens, each of which shares one time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.rope import Grid, rope_table
from engine.models.transformer_layers import (
    CrossAttention,
    Float32LayerNorm,
    Float32Linear,
    ImageEmbedding,
    SelfAttention,
    add_gated,
    modulate,
)

OnBlock = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """Sizes of one transformer, named as in ``config.json``; the defaults are the Wan 2.1 T2V-1.3B checkpoint's.

    image_dim: channels of image features, 0 for a model without the image branch (columns of
    ``img_emb.proj.1.weight``). image_positions: image tokens that have a learnt position, 0 for none (rows of
    ``img_emb.emb_pos``).
    """

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
    image_dim: int = 0
    image_positions: int = 0

    @property
    def has_image_branch(self) -> bool:
        """Whether the tokens attend to image features beside the text."""
        return self.image_dim > 0

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.dim // self.num_heads

    def grid(self, latent_shape: Grid) -> Grid:
        """Tokens along time, height and width of latents of (T, H, W)."""
        frames, height, width = (size // patch for size, patch in zip(latent_shape, self.patch_size, strict=True))
        return frames, height, width


def sinusoid(timestep: Tensor, channels: int) -> Tensor:
    """[B] timesteps in 0..1000 to [B, channels] float32: the cosines, then the sines, of t * 10000^(-i/half)."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float64, device=timestep.device) / -half
    angles = timestep.double()[:, None] * torch.pow(10000.0, exponents)  # [B, half]
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class PatchEmbedding(nn.Conv3d):
    """Latents [B, C, T, H, W] to tokens [B, L, E], width fastest; stored as a convolution, run as one product."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config.in_dim, config.dim, config.patch_size, stride=config.patch_size)
        self.config = config

    def forward(self, latents: Tensor) -> Tensor:
        b, c, *shape = latents.shape
        (t, h, w), (pt, ph, pw) = self.config.grid((shape[0], shape[1], shape[2])), self.config.patch_size
        patches = latents.to(self.weight.dtype).view(b, c, t, pt, h, ph, w, pw)  # [B, C, t, pt, h, ph, w, pw]
        patches = patches.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, t * h * w, -1)  # [B, L, C*pt*ph*pw]
        return F.linear(patches, self.weight.flatten(1), self.bias)


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward; the first and last shifted, scaled and gated by the time."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, num_heads, eps = config.dim, config.num_heads, config.eps
        self.modulation = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        self.norm1 = Float32LayerNorm(dim, eps, elementwise_affine=False)
        self.self_attn = SelfAttention(dim, num_heads, eps)
        self.norm3 = Float32LayerNorm(dim, eps)
        self.cross_attn = CrossAttention(dim, num_heads, eps, has_image_branch=config.has_image_branch)
        self.norm2 = Float32LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), nn.Linear(config.ffn_dim, dim)
        )

    def forward(self, x: Tensor, text: Tensor, image: Tensor | None, time: Tensor, rope: Tensor) -> Tensor:
        """x [B, L, E] and time [B, G, 6, E] float32; text [B, S, E], image [B, I, E] in the dtype of the products."""
        modulation = (self.modulation.float() + time).chunk(6, dim=2)  # each [B, G, 1, E]
        shift_attn, scale_attn, gate_attn, shift_ffn, scale_ffn, gate_ffn = modulation
        y = modulate(self.norm1(x), shift_attn, scale_attn).to(text.dtype)
        x = add_gated(x, self.self_attn(y, rope), gate_attn)
        x = x + self.cross_attn(self.norm3(x).to(text.dtype), text, image)
        y = modulate(self.norm2(x), shift_ffn, scale_ffn).to(text.dtype)
        return add_gated(x, self.ffn(y), gate_ffn)


class Head(nn.Module):
    """Tokens to the values of their patches, the channels of one pixel side by side."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm = Float32LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = Float32Linear(config.dim, prod(config.patch_size) * config.out_dim)
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [B, L, E] float32, time [B, G, E] before its projection, to [B, L, pt*ph*pw*out_dim] float32."""
        shift, scale = (self.modulation.float() + time[:, :, None]).chunk(2, dim=2)  # each [B, G, 1, E]
        return self.head(modulate(self.norm(x), shift, scale))


class WanTransformer(nn.Module):
    """Predicts the velocity (noise minus clean latents) of noisy latents under a text and, in some models, images."""

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
        self.img_emb: ImageEmbedding | None = None
        if config.has_image_branch:
            self.img_emb = ImageEmbedding(config.image_dim, dim, config.image_positions)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        on_block: OnBlock | None = None,
        *,
        image: Tensor | None = None,
    ) -> Tensor:
        """The velocity [B, out_dim, T, H, W] in float32.

        latents [B, in_dim, T, H, W], sizes multiples of the patch; the channels of a conditioning image follow those
        of the noisy latents. timestep [B] in 0..1000, or [B, G] of a time for each of G equal runs of consecutive
        tokens: T of them where each latent frame has its own, L for one a token. text [B, S, text_dim]: the text
        encoder's rows, zero rows up to S = text_len; they are attended to like the others, as in training. image
        [B, I, image_dim]: features of 257 tokens an image for a model with the image branch, which without them
        attends to the text alone. Raises ValueError for features that the model has no branch for.
        `on_block(i)` is called after block i; what it raises leaves this call.
        """
        rope = rope_table(self._grid(latents), self.config.head_dim, latents.device)
        return self.velocity(latents, timestep, text, rope, on_block, image=image)

    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        rope: Tensor,
        on_block: OnBlock | None = None,
        *,
        image: Tensor | None = None,
    ) -> Tensor:
        """As `forward`, of latents whose tokens stand where `rope` [L, 1, D/2] says."""
        dtype = self.patch_embedding.weight.dtype
        time, time_of_blocks = self._times(timestep)
        text = self.text_embedding(text.to(dtype))  # [B, S, E]
        image = None if image is None else self._image_tokens(image, dtype)
        x = self.patch_embedding(latents).float()  # [B, L, E]
        for i, block in enumerate(self.blocks):
            x = block(x, text, image, time_of_blocks, rope)
            if on_block is not None:
                on_block(i)
        return self._unpatchify(self.head(x, time), self._grid(latents))

    def _times(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors [B, G, E] of times [B] or [B, G], and what the blocks get of them, [B, G, 6, E]."""
        time = self.time_embedding(sinusoid(timestep.flatten(), self.config.freq_dim))  # [B*G, E]
        time_of_blocks = self.time_projection(time).unflatten(1, (6, -1))  # [B*G, 6, E]
        runs = (timestep.shape[0], -1)
        return time.unflatten(0, runs), time_of_blocks.unflatten(0, runs)

    def _image_tokens(self, image: Tensor, dtype: torch.dtype) -> Tensor:
        if self.img_emb is None:
            raise ValueError("image features for a model without the image branch")
        return self.img_emb(image, dtype)  # [B, I, E]

    def _grid(self, latents: Tensor) -> Grid:
        return self.config.grid((latents.shape[2], latents.shape[3], latents.shape[4]))

    def _unpatchify(self, x: Tensor, grid: Grid) -> Tensor:
        x = torch.unflatten(torch.unflatten(x, 2, (*self.config.patch_size, self.config.out_dim)), 1, grid)
        x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, T, pt, H, ph, W, pw]
        return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)  # [B, C, T*pt, H*ph, W*pw]
