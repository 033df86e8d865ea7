"""A network in memory whose large layers are made smaller where they stand; for tests."""

import torch
from torch import nn

from engine.models.quantized_linear import QuantizedLinear
from engine.weights.quantize import quantize_weight
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import QuantFormat


def quantize_network(network: nn.Module, to: QuantFormat) -> None:
    """Put a `QuantizedLinear` in the place of each linear layer that quantising stores smaller."""
    names = [name for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    for name in (name for name in names if is_quantized_layer(name, to)):
        layer = network.get_submodule(name)
        bias = layer.bias if isinstance(layer.bias, nn.Parameter) else None
        stored = quantize_weight(layer.get_parameter("weight").detach(), to)
        network.set_submodule(name, QuantizedLinear(stored, None if bias is None else torch.clone(bias)), strict=True)
