"""The CLIP vision transformer of Wan 2.1's image-to-video models: a picture in, one row of features a token out.

Written from the formulas of the official ``wan/modules/clip.py``; parameter names are those of
``models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth``. Matrix products run in the dtype of the weights, norms and
softmax in float32.

B batch, C channels, H height, W width of the picture; L = 1 + patches tokens, N heads, D channels of a head,
E = N*D channels of a token.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Walk = Callable[[], Iterable[nn.Module]]

# Of each colour over CLIP's training pictures, in 0..1: red, green, blue.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class ImageEncoderConfig:
    """Sizes of one encoder; the defaults are those of ViT-H/14.

    num_layers: blocks that are run. Files hold one more, and a last norm and a projection behind it, which are there
    to match pictures with texts; the network has none of the three.
    """

    image_size: int = 224
    patch_size: int = 14
    dim: int = 1280
    mlp_dim: int = 5120
    num_heads: int = 16
    num_layers: int = 31
    eps: float = 1e-5

    @property
    def tokens(self) -> int:
        """Tokens of a picture: one for the whole, then the patches."""
        return 1 + (self.image_size // self.patch_size) ** 2


def clip_picture(image: Tensor, size: int) -> Tensor:
    """Pictures [B, 3, H, W] in -1..1 as the encoder takes them, [B, 3, size, size] float32.

    Squashed to a square by cubic interpolation without smoothing or clamping, as officially, then centred and scaled.
    """
    squashed = F.interpolate(image.float(), (size, size), mode="bicubic", align_corners=False)
    mean, std = (torch.tensor(values, device=image.device).view(3, 1, 1) for values in (MEAN, STD))  # [3, 1, 1]
    return (squashed * 0.5 + 0.5 - mean) / std


class LayerNorm(nn.LayerNorm):
    """Layer norm over the last dim in float32, rounded to x's dtype."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values are rows of one matrix, in this order."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.to_qkv = nn.Linear(config.dim, 3 * config.dim)
        self.proj = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = torch.unflatten(self.to_qkv(x), -1, (3, self.num_heads, -1))  # [B, L, 3, N, D]
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [B, N, L, D]
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).flatten(2))  # [B, L, E]


class Block(nn.Module):
    """Self-attention and feed-forward, each behind its norm and added to its input."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.dim, config.eps)
        self.attn = Attention(config)
        self.norm2 = LayerNorm(config.dim, config.eps)
        self.mlp = nn.Sequential(
            nn.Linear(config.dim, config.mlp_dim), nn.GELU(), nn.Linear(config.mlp_dim, config.dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """The half of CLIP that sees, up to the last block that is run."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        dim, patch = config.dim, config.patch_size
        self.patch_embedding = nn.Conv2d(3, dim, patch, stride=patch, bias=False)
        self.cls_embedding = nn.Parameter(torch.randn(1, 1, dim) / dim**0.5)
        self.pos_embedding = nn.Parameter(torch.randn(1, config.tokens, dim) / dim**0.5)
        self.pre_norm = LayerNorm(dim, config.eps)
        self.transformer = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, picture: Tensor, on_block: Callable[[int], None] | None, walk: Walk | None) -> Tensor:
        patches = self.patch_embedding(picture.to(self.patch_embedding.weight.dtype))  # [B, E, H', W']
        patches = patches.flatten(2).transpose(1, 2)  # [B, L-1, E]
        x = torch.cat([self.cls_embedding.expand(len(patches), -1, -1), patches], dim=1)  # [B, L, E]
        x = self.pre_norm(x + self.pos_embedding)
        for i, block in enumerate(self.transformer if walk is None else walk()):
            x = block(x)
            if on_block is not None:
                on_block(i)
        return x


class ImageEncoder(nn.Module):
    """Pictures to the features that the transformer's image branch takes."""

    def __init__(self, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = VisionTransformer(config)

    def forward(
        self, picture: Tensor, on_block: Callable[[int], None] | None = None, walk: Walk | None = None
    ) -> Tensor:
        """What `clip_picture` made, [B, 3, image_size, image_size], to features [B, L, E] in the weights' dtype.

        The features have no norm behind them; the transformer has its own. `on_block(i)` is called after block i;
        what it raises leaves this call. walk: the blocks, where they are not all on the device.
        """
        return self.visual(picture, on_block, walk)
