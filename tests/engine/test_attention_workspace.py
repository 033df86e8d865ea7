"""The formulas against what the packages' sources make, tensor by tensor, counted on a device without values."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.attention.workspace import AttentionSize, attention_bytes
from engine.generation import AttentionBackend
from engine.memory.simulate import CARD, LiveStorages

TILE = 128
Twin = Callable[[Tensor, Tensor, Tensor], Tensor]
SIZES = [
    AttentionSize(heads=12, queries=4096, keys=32760, head_dim=128),
    AttentionSize(heads=24, queries=1024, keys=1024, head_dim=128),
    AttentionSize(heads=40, queries=75600, keys=75600, head_dim=128),
    AttentionSize(heads=3, queries=576, keys=576, head_dim=64),
    AttentionSize(heads=80, queries=100, keys=5000, head_dim=128),
]


def sage_twin(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``sageattn_qk_int8_pv_fp8_cuda_sm90``, which pads values beside everything else."""
    rounded = per_thread_int8_twin(q, k, k.mean(dim=2, keepdim=True))
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    padding = -k.shape[2] % TILE
    if padding:
        v = torch.cat([v, v.new_zeros(*v.shape[:2], padding, v.shape[3])], dim=2)
    transposed = v.new_empty(*v.shape[:2], v.shape[3], v.shape[2])
    values = transposed.new_empty(transposed.shape, dtype=torch.float8_e4m3fn)
    scale = v.new_empty(*v.shape[:2], v.shape[3], dtype=torch.float32)
    del transposed, values, scale, rounded
    return out


def per_thread_int8_twin(q: Tensor, k: Tensor, mean: Tensor) -> list[Tensor]:
    """Rounded queries and keys with their scales."""
    k = k - mean
    queries, keys = q.new_empty(q.shape, dtype=torch.int8), k.new_empty(k.shape, dtype=torch.int8)
    of_queries = q.new_empty(*q.shape[:2], -(-q.shape[2] // 64) * 32, dtype=torch.float32)
    of_keys = k.new_empty(*k.shape[:2], -(-k.shape[2] // 128) * 4, dtype=torch.float32)
    return [queries, keys, of_queries, of_keys]


def sage_3_twin(q: Tensor, k: Tensor, v: Tensor, per_block_mean: bool) -> Tensor:
    """``sageattn3_blackwell`` of a copy of the keys."""
    return sage_3_blackwell_twin(q, k.clone(), v, per_block_mean)


def sage_3_blackwell_twin(q: Tensor, k: Tensor, v: Tensor, per_block_mean: bool) -> Tensor:
    queries = q.shape[2]
    q, k, v, scores = preprocessed(q, k, v, per_block_mean)
    packed = [rounded for x in (q, k, v) for rounded in fp4_twin(x)]
    out, sums = q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=torch.float32)
    result = out[:, :, :queries].contiguous()
    del packed, sums, scores
    return result


def preprocessed(q: Tensor, k: Tensor, v: Tensor, per_block_mean: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    k -= k.mean(dim=-2, keepdim=True)
    q, k, v = (F.pad(x, (0, 0, 0, -x.shape[2] % TILE)).contiguous() for x in (q, k, v))
    if per_block_mean:
        centred, mean = torch.empty_like(q), q.new_empty(*q.shape[:2], q.shape[2] // TILE, q.shape[3])
        q = centred
        del centred
    else:
        mean = q.mean(dim=-2, keepdim=True)
        q = q - mean
    return q, k, v, (mean @ k.mT).float().contiguous()


def fp4_twin(x: Tensor) -> list[Tensor]:
    b, n, tokens, channels = x.shape
    return [
        x.new_empty(b, n, tokens, channels // 2, dtype=torch.uint8),
        x.new_empty(b, n, tokens, channels // 16, dtype=torch.float8_e4m3fn),
    ]


TWINS: dict[AttentionBackend, Twin] = {
    AttentionBackend.SAGEATTN: sage_twin,
    AttentionBackend.SAGEATTN_3: lambda q, k, v: sage_3_twin(q, k, v, True),
    AttentionBackend.SAGEATTN_3_FP4: lambda q, k, v: sage_3_twin(q, k, v, False),
}


@pytest.mark.parametrize("backend", TWINS)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.queries}x{size.keys}")
def test_the_formula_is_never_below_and_not_far_above(backend: AttentionBackend, size: AttentionSize) -> None:
    q, k, v = (
        torch.empty(1, tokens, size.heads, size.head_dim, dtype=torch.bfloat16, device=CARD).transpose(1, 2)
        for tokens in (size.queries, size.keys, size.keys)
    )
    with LiveStorages() as storages:
        TWINS[backend](q, k, v)
    assert storages.peak[CARD] <= attention_bytes(backend, size) <= 1.05 * storages.peak[CARD]


def test_a_mean_of_every_block_takes_most_where_all_queries_come_at_once() -> None:
    """7 GB of scores of means for 81 frames of 720p in a 14B model: the reason for going through queries in parts."""
    whole, part = (AttentionSize(heads=40, queries=n, keys=75600, head_dim=128) for n in (75600, 4096))
    assert attention_bytes(AttentionBackend.SAGEATTN_3, whole) > 12e9
    assert attention_bytes(AttentionBackend.SAGEATTN_3_FP4, whole) < 5e9
    assert attention_bytes(AttentionBackend.SAGEATTN_3, part) < 4e9
    assert attention_bytes(AttentionBackend.SDPA, whole) < 1e9
