"""Stand-ins for packages that attend: their signatures, layouts, roundings and refusals, on any device.

`install` puts one where Python finds packages, with the metadata of an installed one.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.attention.packages import Package
from tests.engine.attention_rounding import fp4_attention, int8_fp8_attention

FUNCTIONS = {"flash_attn": "flash_attn_func", "sageattention": "sageattn", "sageattn3": "sageattn3_blackwell"}
HALF = (torch.float16, torch.bfloat16)


def install(package: Package, folder: Path, monkeypatch: pytest.MonkeyPatch, version: str | None = None) -> None:
    """Make `package` importable, and what it needs; `version` None for the oldest that will do."""
    for module in (package.module, *package.needs):
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").touch()
    function = FUNCTIONS[package.module]
    source = f"from tests.engine.attention_fakes import {function}\n"
    (folder / package.module / "__init__.py").write_text(source, "utf-8")
    metadata = folder / f"{package.name.replace('-', '_')}-{version or package.oldest}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    lines = f"Metadata-Version: 2.1\nName: {package.name}\nVersion: {version or package.oldest}\n"
    metadata.write_text(lines, "utf-8")
    monkeypatch.syspath_prepend(folder)


def give_card(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    """Let torch see an NVIDIA card of `capability`."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False
) -> Tensor:
    """Exact but for the rounding of the result, of [B, L, N, D]."""
    _check(q, k, v, heads_at=2)
    if q.shape[-1] % 8 or q.shape[-1] > 256:
        raise RuntimeError("head dimension must be a multiple of 8 and at most 256")
    dtype = q.dtype
    q, k, v = (x.transpose(1, 2).float() for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=causal, scale=softmax_scale)
    return out.transpose(1, 2).to(dtype).contiguous()


def sageattn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    sm_scale: float | None = None,
    return_lse: bool = False,
    **kwargs: Any,  # noqa: ANN401
) -> Tensor:
    """INT8 and FP8, of [B, N, L, D] or [B, L, N, D]; what it does not know, it does not heed."""
    _check(q, k, v, heads_at=1 if tensor_layout == "HND" else 2)
    assert not is_causal
    assert sm_scale is None
    assert not return_lse
    assert q.shape[-1] <= 128, "Unsupported head_dim"
    if tensor_layout == "NHD":
        return int8_fp8_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
    return int8_fp8_attention(q, k, v)


def sageattn3_blackwell(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    per_block_mean: bool = True,
    **kwargs: Any,  # noqa: ANN401
) -> Tensor:
    """NVFP4, of [B, N, L, D]; takes the mean off the keys in place, and leaves heads that are too wide to torch."""
    _check(q, k, v, heads_at=1)
    assert attn_mask is None
    assert not is_causal
    if q.shape[-1] >= 256:
        return F.scaled_dot_product_attention(q, k, v)
    assert q.shape[-1] in (64, 128)
    out = fp4_attention(q, k, v, mean_of_blocks=per_block_mean)
    k -= k.mean(dim=-2, keepdim=True)
    return out


def _check(q: Tensor, k: Tensor, v: Tensor, heads_at: int) -> None:
    assert q.dtype in HALF, "Input tensors must be in dtype of torch.float16 or torch.bfloat16"
    assert q.dtype == k.dtype == v.dtype, "All tensors must have the same dtype."
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1, "Last dim of qkv must be contiguous."
    assert q.shape[heads_at] == k.shape[heads_at] == v.shape[heads_at], "MQA/GQA is not supported"
    assert k.shape == v.shape
