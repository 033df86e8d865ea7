"""The VAE's attention inside one frame, without a score matrix that is ever whole. Lives on the engine's thread.

It has one head as wide as the network (384 channels in Wan 2.1, 1024 in 2.2) and a token per latent pixel, 130
thousand at 4K. Where torch has a fused kernel for such a head, queries go through it in parts, so that a cancel is
heard between them. Elsewhere queries meet keys block by block with a running softmax (Milakov and Gimelshein 2018,
"Online normalizer calculation for softmax"), in float32, so that only a block of keys is ever widened.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends.cuda import (
    SDPAParams,
    can_use_cudnn_attention,
    can_use_efficient_attention,
    can_use_flash_attention,
)

from engine.models.video_vae import FrameAttention

MAX_SCORES = 2**22  # that exist at once: 16 MiB in float32


def attend(layer: FrameAttention, x: Tensor, on_layer: Callable[[], None]) -> Tensor:
    """Self-attention inside one frame, [1, C, 1, h, w] to the same. `on_layer` is called before every part."""
    frame = x[:, :, 0]
    if frame.is_cuda:  # fused kernels want the channels of a token side by side
        frame = frame.contiguous(memory_format=torch.channels_last)
    mixed = _mixed(layer, frame, on_layer)  # [1, 1, L, C]
    return x + layer.proj(mixed[:, 0].transpose(1, 2).reshape(frame.shape))[:, :, None]


def _mixed(layer: FrameAttention, frame: Tensor, on_layer: Callable[[], None]) -> Tensor:
    qkv = layer.to_qkv(layer.norm(frame)).flatten(2).transpose(1, 2)[:, None]  # [1, 1, L, 3C]
    q, k, v = qkv.chunk(3, dim=-1)
    tokens = q.shape[2]
    mix = F.scaled_dot_product_attention if has_fused_kernel(q, k, v) else attention_in_blocks
    if tokens**2 <= MAX_SCORES:
        on_layer()
        return mix(q, k, v)
    out = q.new_empty(q.shape)
    size = queries_at_once(tokens) if mix is F.scaled_dot_product_attention else block_size(tokens)
    for start in range(0, tokens, size):
        on_layer()
        part = slice(start, start + size)
        out[:, :, part] = mix(q[:, :, part], k, v)
    return out


def queries_at_once(tokens: int) -> int:
    """Queries of one part where a fused kernel takes all keys together."""
    return max(1, MAX_SCORES // tokens)


def block_size(tokens: int) -> int:
    """Queries, and keys, of one block of scores."""
    return min(tokens, int(MAX_SCORES**0.5))


def has_fused_kernel(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether torch attends without a score matrix here; its plain form also widens all keys to float32."""
    if q.device.type != "cuda":
        return q.device.type == "cpu"
    params = SDPAParams(q, k, v, None, 0.0, False, False)
    return can_use_flash_attention(params) or can_use_efficient_attention(params) or can_use_cudnn_attention(params)


def attention_in_blocks(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k / sqrt(C)) v of q [1, 1, Q, C] with k, v [1, 1, L, C]; the running sums are float32."""
    size = block_size(k.shape[2])
    wide = q[0, 0].float() * q.shape[3] ** -0.5
    sums = RunningSoftmax(wide)
    for keys, values in zip(k[0, 0].split(size), v[0, 0].split(size), strict=True):
        sums.take_in(keys, values)
    return sums.result().to(q.dtype)[None, None]


class RunningSoftmax:
    """Weighted mean of values under a softmax of scores that come block by block, for queries [Q, C] in float32."""

    def __init__(self, queries: Tensor) -> None:
        self._queries = queries
        self._top = queries.new_full((queries.shape[0], 1), -torch.inf)  # of every query's scores so far
        self._weight = torch.zeros_like(self._top)
        self._total = torch.zeros_like(queries)

    def take_in(self, keys: Tensor, values: Tensor) -> None:
        """A block of keys and values, [K, C] each."""
        scores = self._queries @ keys.float().T  # [Q, K]
        top = torch.maximum(self._top, scores.amax(dim=1, keepdim=True))
        scores.sub_(top).exp_()
        shrink = self._top.sub_(top).exp_()  # of what was summed under the old maximum
        self._weight.mul_(shrink).add_(scores.sum(dim=1, keepdim=True))
        self._total.mul_(shrink).addmm_(scores, values.float())
        self._top = top

    def result(self) -> Tensor:
        """The mean [Q, C] over all blocks, in the memory of the sums."""
        return self._total.div_(self._weight)
