"""How many bytes the changes of LoRAs take where they lie beside quantised layers; from headers alone. Pure.

As `engine.weights.lora.runtime` holds them: the factors of low-rank changes and the parts of others in the dtype of
the products, gains and biases in float32.
"""

from collections.abc import Iterable, Sequence
from math import prod

from engine.weights.lora.file import DeltaSource, LoraFile
from engine.weights.lora.names import Part
from engine.weights.lora.shapes import Kind, Shape

FLOAT32_BYTES = 4
WEIGHT, BIAS = ".weight", ".bias"
NO_VALUES = (Part.ALPHA, Part.MAGNITUDE)


def bytes_beside(loras: Sequence[LoraFile], quantized: Iterable[str], item_bytes: int) -> dict[str, int]:
    """What lies beside each of the layers `quantized` that a LoRA changes, factors with `item_bytes` a value."""
    layers = set(quantized)
    changed = dict.fromkeys(name.rpartition(".")[0] for lora in loras for name in lora.sources)
    return {layer: _bytes_beside(loras, layer, item_bytes) for layer in changed if layer in layers}


def largest_whole_change(loras: Sequence[LoraFile], quantized: Iterable[str], item_bytes: int) -> int:
    """The most bytes of a change that is made whole beside a quantised layer for each of its calls."""
    weights = {f"{layer}{WEIGHT}" for layer in quantized}
    whole = (
        prod(source.shape) * item_bytes
        for lora in loras
        for name, source in lora.sources.items()
        if name in weights and source.kind is not Kind.LOW_RANK
    )
    return max(whole, default=0)


def largest_computed_change(loras: Sequence[LoraFile], quantized: Iterable[str]) -> int:
    """The most values of a parameter that is computed with its changes once: merged, or multiplied by DoRA."""
    beside = {f"{layer}{ending}" for layer in quantized for ending in (WEIGHT, BIAS)}
    computed = (
        prod(source.shape)
        for lora in loras
        for name, source in lora.sources.items()
        if name not in beside or Part.MAGNITUDE in source.parts
    )
    return max(computed, default=0)


def _bytes_beside(loras: Sequence[LoraFile], layer: str, item_bytes: int) -> int:
    weights = [(lora, lora.sources[name]) for lora in loras if (name := f"{layer}{WEIGHT}") in lora.sources]
    biases = [lora.sources[name] for lora in loras if (name := f"{layer}{BIAS}") in lora.sources]
    count = sum(_change_bytes(_stored_shapes(lora, source), source, item_bytes) for lora, source in weights)
    dims = {_multiplied_dim(_stored_shapes(lora, source), source) for lora, source in weights}
    count += sum(FLOAT32_BYTES * weights[0][1].shape[dim] for dim in dims if dim is not None)
    return count + (FLOAT32_BYTES * biases[0].shape[0] if biases else 0)


def _stored_shapes(lora: LoraFile, source: DeltaSource) -> dict[Part, Shape]:
    return {part: lora.checkpoint.header[name].shape for part, name in source.parts.items()}


def _change_bytes(stored: dict[Part, Shape], source: DeltaSource, item_bytes: int) -> int:
    rows, columns = source.shape
    if source.kind is Kind.LOW_RANK:
        rank = prod(stored[Part.UP][1:])
        return rank * ((rows + columns) * item_bytes + FLOAT32_BYTES)
    if Part.MAGNITUDE in stored:  # DoRA makes the change whole
        return rows * columns * item_bytes
    return sum(prod(shape) * item_bytes for part, shape in stored.items() if part not in NO_VALUES)


def _multiplied_dim(stored: dict[Part, Shape], source: DeltaSource) -> int | None:
    """The dim of the weight that DoRA's magnitude multiplies, 0 for rows; None without one."""
    magnitude = stored.get(Part.MAGNITUDE)
    if magnitude is None:
        return None
    return 0 if magnitude[0] == source.shape[0] == prod(magnitude) else 1
