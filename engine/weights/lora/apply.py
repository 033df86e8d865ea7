"""Give a loaded network the changes of LoRAs: merged where weights are plain, beside them where they are quantised.

Removing a LoRA is loading the network again. Lives on the engine's thread.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.model_choice import LoraUse
from engine.models.quantized_linear import QuantizedLinear
from engine.weights.checkpoint import Checkpoint
from engine.weights.lora.deltas import change_of, moved
from engine.weights.lora.file import LoraFile, parse_lora
from engine.weights.lora.runtime import LoraLinear, Weighted
from engine.weights.lora.shapes import Shape

OnTensor = Callable[[], None]


@dataclass(frozen=True, slots=True)
class ActiveLora:
    """An opened LoRA and its strength, which is not 0."""

    lora: LoraFile
    strength: float


def open_loras(
    uses: Iterable[LoraUse], shapes: Mapping[str, Shape], open_file: Callable[[Path], Checkpoint]
) -> list[ActiveLora]:
    """The LoRAs of `uses`, see `uses_of`, for a network whose official parameters have these `shapes`.

    No value is read. Raises MODEL_INVALID for a file that is none, or for another model.
    """
    return [ActiveLora(parse_lora(open_file(use.path), shapes), use.strength) for use in uses if use.strength != 0]


def apply_loras(network: nn.Module, loras: Sequence[ActiveLora], dtype: torch.dtype, on_tensor: OnTensor) -> None:
    """Change `network` by all `loras` together; a parameter that none of them names stays the very same.

    Sums are made in float32 on the parameter's device and rounded once. `dtype` is that of the matrix products, in
    which changes beside quantised layers are held. `on_tensor` is called before each parameter; what it raises leaves
    the call. Raises MODEL_INVALID for values that are not finite.
    """
    changed = dict.fromkeys(name for active in loras for name in active.lora.sources)
    quantised: dict[str, QuantizedLinear] = {}
    for name in changed:
        path = name.rpartition(".")[0]
        layer = network.get_submodule(path)
        if isinstance(layer, QuantizedLinear):
            quantised[path] = layer
        else:
            on_tensor()
            _merge(layer, name.rpartition(".")[2], _changes(name, loras))
    for path, base in quantised.items():
        on_tensor()
        parent, _, own_name = path.rpartition(".")
        setattr(network.get_submodule(parent), own_name, _wrapped(base, path, loras, dtype))


def _changes(name: str, loras: Sequence[ActiveLora]) -> list[Weighted]:
    """What the `loras` change of the parameter `name`, in their order."""
    return [(active.lora.delta(name), active.strength) for active in loras if name in active.lora.sources]


def _merge(layer: nn.Module, own_name: str, changes: Sequence[Weighted]) -> None:
    parameter: Tensor = getattr(layer, own_name)
    base = parameter.detach().float()
    merged = _total(base, changes).add_(base)
    setattr(layer, own_name, nn.Parameter(merged.to(parameter.dtype), requires_grad=parameter.requires_grad))


def _total(base: Tensor, changes: Sequence[Weighted]) -> Tensor:
    """The sum of all changes of `base`, both float32."""
    total = torch.zeros_like(base)
    for delta, strength in changes:
        total.add_(change_of(moved(delta, base.device), base), alpha=strength)
    return total


def _wrapped(base: QuantizedLinear, path: str, loras: Sequence[ActiveLora], dtype: torch.dtype) -> LoraLinear:
    of_bias = _changes(f"{path}.bias", loras)
    added = None if base.bias is None or not of_bias else _total(base.bias.detach().float(), of_bias)
    return LoraLinear(base, _changes(f"{path}.weight", loras), added, dtype)
