"""Changes added while a quantised layer works, since its stored weight cannot take them. Lives on the engine's thread.

I columns in, O rows out, R ranks of all low-rank changes together.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.quantized_linear import QuantizedLinear
from engine.weights.dequantize import values
from engine.weights.lora.deltas import Delta, Dense, Dora, LowRank, PlainDelta, moved

Weighted = tuple[Delta, float]  # a change and its strength


class HeldDelta(nn.Module):
    """A change whose tensors move with the network; made whole for each call, so that only its parts are kept."""

    def __init__(self, delta: PlainDelta, strength: float, dtype: torch.dtype) -> None:
        super().__init__()
        self.strength = strength
        fields = {field.name: getattr(delta, field.name) for field in dataclasses.fields(delta)}
        self._tensors = [name for name, value in fields.items() if isinstance(value, Tensor)]
        for name in self._tensors:
            self.register_buffer(name, fields[name].to(dtype), persistent=False)
        nothing: dict[str, Any] = dict.fromkeys(self._tensors)
        self._empty = dataclasses.replace(delta, **nothing)

    def forward(self, x: Tensor, rows: int) -> Tensor:
        """What the change adds to the product of x [..., I]: [..., O], O being `rows`."""
        delta = dataclasses.replace(self._empty, **{name: getattr(self, name) for name in self._tensors})
        return F.linear(x, delta.full((rows, x.shape[-1]), x.dtype)) * self.strength


class LoraLinear(nn.Module):
    """base(x), and the product of x and every change of the base's weight; DoRA's multipliers act on the base.

    All low-rank changes together are one pair of factors; their scales and strengths stay beside them in float32.
    """

    base: QuantizedLinear
    down: Tensor  # [R, I]
    up: Tensor  # [O, R]
    gains: Tensor  # [R]
    row_gains: Tensor | None  # [O], what is added of the base's own rows
    column_gains: Tensor | None  # [I]
    added_bias: Tensor | None  # [O]

    def __init__(
        self, base: QuantizedLinear, changes: Sequence[Weighted], added_bias: Tensor | None, dtype: torch.dtype
    ) -> None:
        """The factors are held in `dtype`, that of the products around the layer; `added_bias` [O] in float32."""
        super().__init__()
        self.base = base
        self._hold({"row_gains": None, "column_gains": None, "added_bias": added_bias})
        device = base.weight.device
        plain = [(self._taken_apart(moved(delta, device), strength), strength) for delta, strength in changes]
        low_rank = [(delta, strength) for delta, strength in plain if isinstance(delta, LowRank)]
        self._hold_factors(low_rank, dtype)
        others = [(delta, strength) for delta, strength in plain if not isinstance(delta, LowRank)]
        self.others = nn.ModuleList(HeldDelta(delta, strength, dtype) for delta, strength in others)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., I] to [..., O], in the dtype that the base gives."""
        y: Tensor = self.base(x)
        bias = self.base.bias
        if self.row_gains is not None:
            y = y + ((y if bias is None else y - bias) * self.row_gains).to(y.dtype)
        if self.column_gains is not None:
            scaled = self.base((x * self.column_gains).to(x.dtype))
            y = y + (scaled if bias is None else scaled - bias)
        y = self._with_factors(x, y)
        for change in self.others:
            y = y + change(x, y.shape[-1]).to(y.dtype)
        return y if self.added_bias is None else y + self.added_bias.to(y.dtype)

    def _with_factors(self, x: Tensor, y: Tensor) -> Tensor:
        if not len(self.gains):
            return y
        inner = F.linear(x, self.down.to(x.dtype)) * self.gains  # [..., R] float32
        rows = y.reshape(-1, y.shape[-1])  # y is the base's own output, so that the sum needs no memory of its own
        rows.addmm_(inner.reshape(-1, inner.shape[-1]).to(y.dtype), self.up.to(y.dtype).t())
        return rows.view(y.shape)

    def _taken_apart(self, delta: Delta, strength: float) -> PlainDelta:
        """DoRA W' = (W + d) * m as W + (m - 1) * W + m * d: the middle part joins the gains, the last is returned."""
        if not isinstance(delta, Dora):
            return delta
        weight = values(self.base.stored, torch.float32)
        multiplier = delta.multiplier(weight)  # [O, 1] or [1, I]
        is_of_rows = delta.magnitude.shape[1] == 1
        name, gains = ("row_gains" if is_of_rows else "column_gains"), (multiplier - 1).flatten() * strength
        before = getattr(self, name)
        self._hold({name: gains if before is None else before + gains})
        if not isinstance(delta.change, LowRank):
            return Dense(delta.change.full(tuple(weight.shape)) * multiplier)
        up, down = delta.change.factors(torch.float32)
        up, down = (up * multiplier, down) if is_of_rows else (up, down * multiplier)
        return LowRank(up, down, scale=delta.change.scale)

    def _hold_factors(self, changes: Sequence[tuple[LowRank, float]], dtype: torch.dtype) -> None:
        ups, downs, gains = [], [], []
        for delta, strength in changes:
            up, down = delta.factors(torch.float32)
            ups.append(up.to(dtype))
            downs.append(down.to(dtype))
            gains.append(torch.full((len(down),), delta.scale * strength, device=down.device))
        empty = torch.empty(0)
        held = (torch.cat(ups, 1), torch.cat(downs), torch.cat(gains)) if changes else (empty, empty, empty)
        self._hold(dict(zip(("up", "down", "gains"), held, strict=True)))

    def _hold(self, tensors: dict[str, Tensor | None]) -> None:
        """Buffers that move with the network but belong to no checkpoint."""
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)
