"""The changes that LoRA files hold, as values: each kind from its parts, and DoRA around any of them.

Formulas after LyCORIS. Lives on the engine's thread. R rank, O rows of the weight, I its columns (kernels flattened).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LowRank:
    """scale * up @ down; up [O, R], down [R, I]; LoCon: mid [R, R', kernel] between them, down [R', I / kernel]."""

    up: Tensor
    down: Tensor
    mid: Tensor | None = None
    scale: float = 1.0

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[O, R] and [R, I], without the scale."""
        up, down = self.up.flatten(1).to(dtype), self.down.flatten(1).to(dtype)
        if self.mid is not None:
            down = torch.einsum("r s ..., s i -> r i ...", self.mid.to(dtype), down).flatten(1)
        return up, down

    def full(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """The change of a weight of `shape`."""
        up, down = self.factors(dtype)
        return (up @ down).mul_(self.scale).view(shape)


@dataclass(frozen=True, slots=True)
class Hadamard:
    """scale * (a1 @ b1) * (a2 @ b2), each product in Tucker form where a core is given."""

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor
    core1: Tensor | None = None
    core2: Tensor | None = None
    scale: float = 1.0

    def full(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """The change of a weight of `shape`."""
        product = _product(self.a1, self.b1, self.core1, dtype)
        return product.mul_(_product(self.a2, self.b2, self.core2, dtype)).mul_(self.scale).view(shape)


@dataclass(frozen=True, slots=True)
class Kronecker:
    """scale * (w1 kron w2); each whole (`b` None) or as a product a @ b, the second also in Tucker form."""

    a1: Tensor
    b1: Tensor | None
    a2: Tensor
    b2: Tensor | None
    core2: Tensor | None = None
    scale: float = 1.0

    def full(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """The change of a weight of `shape`; kernels, being the fastest dims of w2, stay so in the flat product."""
        first = _whole_or_product(self.a1, self.b1, None, dtype)
        second = _whole_or_product(self.a2, self.b2, self.core2, dtype)
        return torch.kron(first, second).mul_(self.scale).view(shape)


@dataclass(frozen=True, slots=True)
class Dense:
    """A difference as it is."""

    values: Tensor

    def full(self, shape: Shape, dtype: torch.dtype = torch.float32) -> Tensor:
        """The change of a parameter of `shape`."""
        return self.values.to(dtype).reshape(shape)


PlainDelta = LowRank | Hadamard | Kronecker | Dense


@dataclass(frozen=True, slots=True)
class Dora:
    """(W + change) * magnitude / norm of (W + change), per row or per column of the weight.

    magnitude: [O, 1] or [1, I] for a weight of two dims, ones for further dims.
    """

    change: PlainDelta
    magnitude: Tensor

    def multiplier(self, base: Tensor) -> Tensor:
        """What W + change is multiplied by, float32 [O, 1, ...] or [1, C, ...]; `base` is W in float32."""
        changed = base + self.change.full(tuple(base.shape))
        others = tuple(dim for dim, size in enumerate(self.magnitude.shape) if size == 1)
        norm = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
        return self.magnitude.float() / (norm + torch.finfo(torch.float32).eps)


Delta = PlainDelta | Dora


def change_of(delta: Delta, base: Tensor) -> Tensor:
    """What `delta` adds to the weight `base`, given in float32; float32 of the same shape."""
    if isinstance(delta, Dora):
        changed = base + delta.change.full(tuple(base.shape))
        return changed.mul_(delta.multiplier(base)).sub_(base)
    return delta.full(tuple(base.shape))


def moved(delta: Delta, device: torch.device) -> Delta:
    """`delta` with its tensors on `device`."""
    fields = {field.name: getattr(delta, field.name) for field in dataclasses.fields(delta)}
    there: dict[str, Any] = {name: value.to(device) for name, value in fields.items() if isinstance(value, Tensor)}
    if isinstance(delta, Dora):
        there["change"] = moved(delta.change, device)
    return dataclasses.replace(delta, **there)


def _whole_or_product(a: Tensor, b: Tensor | None, core: Tensor | None, dtype: torch.dtype) -> Tensor:
    return a.flatten(1).to(dtype) if b is None else _product(a, b, core, dtype)


def _product(a: Tensor, b: Tensor, core: Tensor | None, dtype: torch.dtype) -> Tensor:
    """a [O, R] @ b [R, I]; Tucker: core [R, R', kernel], a [R, O], b [R', C] give [O, C * kernel]."""
    a, b = a.flatten(1).to(dtype), b.flatten(1).to(dtype)
    if core is None:
        return a @ b
    return torch.einsum("r s ..., r o, s c -> o c ...", core.to(dtype), a, b).flatten(1)
