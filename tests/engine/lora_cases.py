"""LoRA files in memory, and the weights that they change recomputed with numpy from the formulas alone."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.header import TensorInfo

FILE = Path("some_lora.safetensors")
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int8: "I8", torch.uint8: "U8", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip

Array = npt.NDArray[np.float64]


def checkpoint_of(tensors: Mapping[str, Tensor]) -> Checkpoint:
    """What a file with these `tensors` opens as."""
    header = {
        name: TensorInfo(DTYPES[tensor.dtype], tuple(tensor.shape), tensor.numel() * tensor.itemsize)
        for name, tensor in tensors.items()
    }
    return Checkpoint((FILE,), header, {}, lambda name: tensors[name])


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(hash(shape) % 2**31))


def tensors_of(
    kind: str, layer: str, shape: tuple[int, ...], rank: int = 3, alpha: float | None = 2.0
) -> dict[str, Tensor]:
    """The stored tensors of a change of `layer` whose weight has `shape`, in one of the forms of LyCORIS."""
    rows, columns, *kernel = shape
    ones = [1] * len(kernel)
    flat = columns * int(np.prod(kernel))
    parts: dict[str, Tensor] = {
        "lora": {"lora_down.weight": random(rank, columns, *kernel), "lora_up.weight": random(rows, rank, *ones)},
        "locon": {
            "lora_up.weight": random(rows, rank, *ones),
            "lora_mid.weight": random(rank, rank, *kernel),
            "lora_down.weight": random(rank, columns, *ones),
        },
        "diff": {"diff": random(*shape)},
        "loha": {
            "hada_w1_a": random(rows, rank), "hada_w1_b": random(rank, flat),
            "hada_w2_a": random(rows, rank) + 1, "hada_w2_b": random(rank, flat) - 1,
        },
        "loha_tucker": {
            "hada_t1": random(rank, rank, *kernel), "hada_w1_a": random(rank, rows),
            "hada_w1_b": random(rank, columns), "hada_t2": random(rank, rank, *kernel) + 1,
            "hada_w2_a": random(rank, rows) - 1, "hada_w2_b": random(rank, columns) + 1,
        },
        "lokr": {"lokr_w1": random(2, 4), "lokr_w2": random(rows // 2, columns // 4, *kernel)},
        "lokr_ab": {
            "lokr_w1_a": random(2, rank), "lokr_w1_b": random(rank, 4),
            "lokr_w2_a": random(rows // 2, rank), "lokr_w2_b": random(rank, flat // 4),
        },
        "lokr_b": {
            "lokr_w1": random(2, 4),
            "lokr_w2_a": random(rows // 2, rank), "lokr_w2_b": random(rank, flat // 4),
        },
        "lokr_a": {
            "lokr_w1_a": random(2, rank), "lokr_w1_b": random(rank, 4),
            "lokr_w2": random(rows // 2, columns // 4, *kernel),
        },
        "lokr_tucker": {
            "lokr_w1": random(2, 4), "lokr_t2": random(rank, rank, *kernel),
            "lokr_w2_a": random(rank, rows // 2), "lokr_w2_b": random(rank, columns // 4),
        },
    }[kind]  # fmt: skip
    if alpha is not None and kind != "diff":
        parts["alpha"] = torch.tensor(alpha)
    return {f"{layer}.{part}": tensor for part, tensor in parts.items()}


def expected_change(kind: str, tensors: Mapping[str, Tensor], layer: str, shape: tuple[int, ...]) -> Array:
    """The same change by explicit sums over indices, in float64."""
    parts = {name.removeprefix(f"{layer}."): tensor.double().numpy() for name, tensor in tensors.items()}
    divisor = {"lora": "lora_down.weight", "locon": "lora_down.weight"}.get(kind)
    divisor = divisor or next((name for name in ("hada_w1_b", "lokr_w2_b", "lokr_w1_b") if name in parts), None)
    scale = float(parts["alpha"]) / len(parts[divisor]) if divisor and "alpha" in parts else 1.0
    return scale * _unscaled(kind, parts, shape).reshape(shape)


def _unscaled(kind: str, t: dict[str, Array], shape: tuple[int, ...]) -> Array:
    rows, columns, *kernel = shape
    match kind:
        case "diff":
            return t["diff"]
        case "lora":
            return _outer_sum(t["lora_up.weight"], t["lora_down.weight"])
        case "locon":
            up, mid, down = (t[f"lora_{part}.weight"] for part in ("up", "mid", "down"))
            return _tucker(mid, _flat(up).T, _flat(down))
        case "loha":
            return _outer_sum(t["hada_w1_a"], t["hada_w1_b"]) * _outer_sum(t["hada_w2_a"], t["hada_w2_b"])
        case "loha_tucker":
            first = _tucker(t["hada_t1"], t["hada_w1_a"], t["hada_w1_b"])
            return first * _tucker(t["hada_t2"], t["hada_w2_a"], t["hada_w2_b"])
    w1 = t["lokr_w1"] if "lokr_w1" in t else _outer_sum(t["lokr_w1_a"], t["lokr_w1_b"])
    if "lokr_t2" in t:
        w2 = _tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    else:
        w2 = t["lokr_w2"] if "lokr_w2" in t else _outer_sum(t["lokr_w2_a"], t["lokr_w2_b"])
    return _kronecker(w1, w2.reshape(rows // 2, columns // 4, int(np.prod(kernel))))


def _flat(values: Array) -> Array:
    return values.reshape(len(values), -1)


def _outer_sum(a: Array, b: Array) -> Array:
    """The product of two matrices as a sum over the rank."""
    return np.stack([np.outer(_flat(a)[:, r], _flat(b)[r]) for r in range(len(b))]).sum(axis=0)


def _tucker(core: Array, a: Array, b: Array) -> Array:
    """core [R, R', kernel], a [R, rows], b [R', columns] to [rows, columns, kernel], kernel flattened."""
    flat = core.reshape(*core.shape[:2], -1)
    out = np.zeros((a.shape[1], b.shape[1], flat.shape[2]))
    for i, j in np.ndindex(*flat.shape[:2]):
        out += a[i][:, None, None] * b[j][None, :, None] * flat[i, j]
    return out


def _kronecker(first: Array, second: Array) -> Array:
    """first [A, B], second [C, D, kernel] to [A*C, B*D, kernel]."""
    (a, b), (c, d, size) = first.shape, second.shape
    out = np.zeros((a * c, b * d, size))
    for i, j in np.ndindex(a, b):
        out[i * c : (i + 1) * c, j * d : (j + 1) * d] = first[i, j] * second
    return out


KINDS = ["lora", "locon", "diff", "loha", "loha_tucker", "lokr", "lokr_ab", "lokr_b", "lokr_a", "lokr_tucker"]
