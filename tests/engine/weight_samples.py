"""Weights as trained networks have them, and the sources that name their stored forms."""

import torch
from torch import Tensor

from engine.weights.header import Header, TensorInfo
from engine.weights.source import Part, QuantFormat, WeightSource

DTYPE_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.uint8: "U8",
    torch.int8: "I8",
}


def weight_of(kind: str, rows: int = 256, columns: int = 512) -> Tensor:
    """A weight in bfloat16, as checkpoints store it."""
    torch.manual_seed(0)
    weight = torch.randn(rows, columns) * 0.02
    if kind == "heavy tails":
        weight = torch.distributions.StudentT(3.0).sample((rows, columns)) * 0.02
    if kind == "outlier columns":
        weight[:, [3, 100, columns - 1]] *= 30
    if kind == "uneven rows":
        weight *= torch.logspace(-3, 0, rows)[:, None]
    return weight.bfloat16()


KINDS = ("normal", "heavy tails", "outlier columns", "uneven rows")


def relative_error(values: Tensor, exact: Tensor) -> float:
    """Norm of the difference over the norm of what is exact."""
    return float((values.double() - exact.double()).norm() / exact.double().norm())


def header_of(tensors: dict[str, Tensor]) -> Header:
    return {
        name: TensorInfo(DTYPE_NAMES[tensor.dtype], tuple(tensor.shape), tensor.nbytes)
        for name, tensor in tensors.items()
    }


def source_of(tensors: dict[str, Tensor], shape: tuple[int, ...], quantization: QuantFormat | None) -> WeightSource:
    """The source of the tensor called `weight` with the parts that lie beside it."""
    parts = {part: part.value for part in Part if part in tensors}
    return WeightSource("weight", shape, quantization, parts)
