"""Attention as quantising kernels compute it, rounding for rounding, in float32 on any device: slow and plain.

Written from the papers and sources of SageAttention 2 and 3. Softmax is over all keys at once, where kernels go over
blocks of them; a block's own maximum changes the scale of weights, not how many bits they have.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

E4M3_MAX, E2M1_MAX = 448.0, 6.0
FP4_STEPS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
BLOCK = 128  # queries with a mean of their own; tokens are padded to it


def int8_fp8_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """SageAttention 2 on cards of capability 8.9 and later: INT8 scales of 32 queries and 64 keys, the rest in FP8."""
    scores = int8(q, 32) @ int8(k - k.mean(dim=2, keepdim=True), 64).mT * q.shape[-1] ** -0.5
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    scale = v.float().abs().amax(dim=2, keepdim=True) / E4M3_MAX
    values = e4m3(v.float() / scale) * scale
    mixed = e4m3(weights * E4M3_MAX) / E4M3_MAX @ values
    return (mixed / weights.sum(dim=-1, keepdim=True)).to(q.dtype)


def fp4_attention(q: Tensor, k: Tensor, v: Tensor, *, mean_of_blocks: bool) -> Tensor:
    """SageAttention 3: queries without their mean, keys without theirs, everything in NVFP4, sums in float32."""
    keys = padded(k - k.mean(dim=2, keepdim=True))
    queries, values = padded(q), padded(v)
    blocks = queries.unflatten(2, (-1, BLOCK))  # [B, N, G, 128, D]
    mean = blocks.mean(dim=3, keepdim=True) if mean_of_blocks else queries.mean(dim=2, keepdim=True)[:, :, None]
    missing = (mean @ keys.mT[:, :, None]).float()  # [B, N, G, 1, L]
    scores = nvfp4(blocks - mean) @ nvfp4(keys).mT[:, :, None] + missing  # [B, N, G, 128, L]
    scores = scores.flatten(2, 3)[..., : q.shape[2], :] * q.shape[-1] ** -0.5
    scores[..., k.shape[2] :] = -torch.inf
    weights = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    widened = E4M3_MAX * E2M1_MAX  # to where the scales of blocks have all their bits
    mixed = nvfp4(weights * widened) / widened @ nvfp4(values.mT).mT
    return (mixed / weights.sum(dim=-1, keepdim=True)).to(q.dtype)


def int8(x: Tensor, tokens: int) -> Tensor:
    """Rounded to 255 steps, a scale for each `tokens` of x [B, N, L, D]."""
    groups = F.pad(x.float(), (0, 0, 0, -x.shape[2] % tokens)).unflatten(2, (-1, tokens))
    scale = groups.abs().amax(dim=(3, 4), keepdim=True).clamp_min(1e-7) / 127
    return ((groups / scale).round() * scale).flatten(2, 3)[:, :, : x.shape[2]]


def e4m3(x: Tensor) -> Tensor:
    """Rounded to FP8."""
    return x.to(torch.float8_e4m3fn).float()


def nvfp4(x: Tensor) -> Tensor:
    """Rounded to four bits, an FP8 scale for each 16 of the last dim."""
    groups = x.float().unflatten(-1, (-1, 16))
    scale = e4m3(groups.abs().amax(dim=-1, keepdim=True) / E2M1_MAX).clamp_min(2**-9)
    return (e2m1(groups / scale) * scale).flatten(-2)


def e2m1(x: Tensor) -> Tensor:
    """The nearest four-bit value; values between two go to the even code, as the instruction does."""
    magnitude = x.abs().clamp_max(E2M1_MAX).contiguous()
    middles = (FP4_STEPS[1:] + FP4_STEPS[:-1]) / 2
    up, down = torch.bucketize(magnitude, middles, right=True), torch.bucketize(magnitude, middles)
    return FP4_STEPS[torch.where(up % 2 == 0, up, down)].copysign(x)


def padded(x: Tensor) -> Tensor:
    """Zero tokens put behind x [B, N, L, D], up to a multiple of 128."""
    return F.pad(x, (0, 0, 0, -x.shape[2] % BLOCK))


def relative_rms(ours: Tensor, reference: Tensor) -> float:
    """The root mean square of the difference over that of the reference."""
    return ((ours.float() - reference.float()).norm() / reference.float().norm()).item()
