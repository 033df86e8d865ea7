"""A linear layer that keeps its weight as it is stored. Lives on the engine's thread.

L rows of the input, K columns of input and weight, M output features.
"""

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from engine.models.scaled_products import Product, Why, fp8_product, nvfp4_product, product_of
from engine.weights.dequantize import StoredTensors, check_tensors, row_blocks, rows_of, tensor_scale_of, values
from engine.weights.source import Part


class QuantizedLinear(nn.Module):
    """y = x W^T + b with a stored W; for inference only, in the dtype of x.

    The stored tensors are buffers with Comfy's names (``weight``, ``weight_scale``, ...) and move with the module, but
    keep their dtypes when it is cast. Beside input and output a product takes `WORK_BYTES`, however large W is.
    """

    weight: Tensor
    bias: nn.Parameter | None

    def __init__(self, stored: StoredTensors, bias: Tensor | None, *, rounds_input: bool = False) -> None:
        """`stored` has two dims, M and K.

        rounds_input: where the device has tensor cores for it, x is rounded as W is, which is faster. All layers of
        a small network in eight bits together are then 4.3 % off, not 2.9 %; in four bits 13 %, not 9 %.
        Raises ValueError when the stored tensors do not fit together.
        """
        super().__init__()
        if stored.source.quantization is None or len(stored.source.shape) != 2:
            raise ValueError(f"{stored.source.name} is not a quantised weight of two dims")
        check_tensors(stored)
        self.out_features, self.in_features = stored.source.shape
        self.rounds_input = rounds_input
        self.quantization = stored.source.quantization
        self._source, self._dtype = stored.source, stored.dtype
        self.register_buffer("weight", stored.data)
        for part, tensor in stored.parts.items():
            self.register_buffer(part, tensor)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))

    @property
    def stored(self) -> StoredTensors:
        """The stored tensors, where they are now."""
        parts = {part: self.get_buffer(part) for part in self._source.parts}
        return StoredTensors(self._source, self._dtype, self.weight, parts)

    def product(self, device: torch.device) -> tuple[Product, Why]:
        """How y is computed on `device`, and why."""
        if not self.rounds_input:
            return Product.DEQUANTIZED, Why.NOT_ASKED
        return product_of(device, self.quantization, (self.out_features, self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., K] to [..., M]."""
        rows = x.reshape(-1, self.in_features)  # [L, K]
        y = rows.new_empty(rows.shape[0], self.out_features)  # [L, M]
        product, _ = self.product(x.device)
        if product is Product.DEQUANTIZED:
            self._multiply_by_values(rows, y)
        else:
            self._multiply_as_stored(rows, y, product)
        return y.view(*x.shape[:-1], self.out_features)

    def _multiply_by_values(self, x: Tensor, y: Tensor) -> None:
        """Write x W^T + b into y, some output features at a time."""
        for start, stop in row_blocks(self.out_features, self.in_features):
            weight = values(rows_of(self.stored, start, stop), x.dtype).t()
            if self.bias is None:
                torch.mm(x, weight, out=y[:, start:stop])
            else:
                torch.addmm(self.bias[start:stop].to(x.dtype), x, weight, out=y[:, start:stop])

    def _multiply_as_stored(self, x: Tensor, y: Tensor, product: Product) -> None:
        """Write x W^T + b into y, some rows of x at a time, in the tensor cores that take W as it is."""
        stored = self.stored
        columns = stored.parts.get(Part.PRE_QUANT_SCALE)
        for start, stop in row_blocks(len(x), max(self.in_features, self.out_features)):
            piece = x[start:stop] if columns is None else x[start:stop] * columns.to(x.dtype).reshape(-1)
            result = _fp8(piece, stored) if product is Product.FP8 else _nvfp4(piece, stored)
            y[start:stop] = result if self.bias is None else result + self.bias

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedLinear":
        """Move the module, or cast its bias: `fn` sees the stored tensors as bytes, which are never cast."""

        def apply(tensor: Tensor) -> Tensor:
            if tensor is self.bias:
                return fn(tensor)
            return fn(tensor.reshape(-1).view(torch.uint8)).view(tensor.dtype).view(tensor.shape)

        super()._apply(apply, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.quantization}, bias={self.bias is not None}"


def products_of(network: nn.Module, device: torch.device) -> "Counter[tuple[Product, Why]]":
    """How the quantised layers of `network` are computed on `device` and why, by number of layers."""
    return Counter(layer.product(device) for layer in network.modules() if isinstance(layer, QuantizedLinear))


def _fp8(x: Tensor, stored: StoredTensors) -> Tensor:
    scale = stored.parts.get(Part.WEIGHT_SCALE)
    return fp8_product(x, stored.data, torch.ones((), device=x.device) if scale is None else scale.float())


def _nvfp4(x: Tensor, stored: StoredTensors) -> Tensor:
    low_first = stored.source.low_nibble_first
    scales, scale = stored.parts[Part.WEIGHT_SCALE], tensor_scale_of(stored)
    return nvfp4_product(x, stored.data, scales, scale, low_nibble_first=low_first)
