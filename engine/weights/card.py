"""How many bytes a network will take on the card, in each form that it can be loaded in. Pure and torch-free.

Quantised are the products inside the blocks, which hold nearly everything; all other parameters stay what they are:
norms, biases, embeddings, modulation, head, and the paths of time, text and picture.
"""

from math import prod

from engine.model_choice import WeightForm
from engine.models.float32_islands import keeps_float32
from engine.weights.expected import Shape
from engine.weights.families import Role
from engine.weights.identify import Description
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import QuantFormat, WeightSource

WEIGHT = ".weight"
BF16_BYTES, FP32_BYTES = 2, 4
NVFP4_COLUMNS = 16  # that share a scale, and multiple of the stored rows and columns
SCALE_TILE = (128, 4)  # rows and columns that the scales of blocks are filled up to
NARROW_FLOATS = {"F16": BF16_BYTES, "BF16": BF16_BYTES}  # what is used in float32 stays as narrow as it is stored
QUANTIZED_ROLES = (Role.TRANSFORMER, Role.TEXT_ENCODER)
QUANTIZED_FORMS = {"fp8_scaled": QuantFormat.FP8_E4M3, "fp4_scaled": QuantFormat.NVFP4}
ALL_FORMS = ("bf16", "fp8_scaled", "fp4_scaled", "as_stored")


def bytes_on_card(model: Description) -> dict[str, int]:
    """Bytes of all parameters by form; empty for what is no network, and without forms that the role has not."""
    if not model.sources:
        return {}
    forms = ALL_FORMS if model.role in QUANTIZED_ROLES else ("bf16", "as_stored")
    return {form: sum(_bytes(model, name, form) for name in model.sources) for form in forms}


def loaded_bytes(model: Description, form: WeightForm, item_bytes: int) -> int:
    """Bytes of the parameters as they are loaded in `form`, plain values with `item_bytes` each."""
    to = QUANTIZED_FORMS.get(form)
    return sum(_loaded_bytes(model, name, to, item_bytes) for name in model.sources)


def _loaded_bytes(model: Description, name: str, to: QuantFormat | None, item_bytes: int) -> int:
    source, layer = model.sources[name], name.removesuffix(WEIGHT)
    if to is not None and layer != name and is_quantized_layer(layer, to):
        return fp8_bytes(source.shape) if to is QuantFormat.FP8_E4M3 else fp4_bytes(source.shape)
    is_used_wide = model.role is Role.TRANSFORMER and keeps_float32(name)
    is_linear = layer != name and len(source.shape) == 2 and not layer.endswith("embedding") and not is_used_wide
    if source.quantization is not None and is_linear and not source.pieces:
        return _stored_bytes(model, source)
    if is_used_wide:
        return prod(source.shape) * NARROW_FLOATS.get(model.header[source.name].dtype, FP32_BYTES)
    return prod(source.shape) * item_bytes


def _bytes(model: Description, name: str, form: str) -> int:
    source = model.sources[name]
    if form == "as_stored":
        return sum(_stored_bytes(model, piece) for piece in source.pieces or (source,))
    to = QUANTIZED_FORMS.get(form)
    if to is not None and name.endswith(WEIGHT) and is_quantized_layer(name.removesuffix(WEIGHT), to):
        return fp8_bytes(source.shape) if to is QuantFormat.FP8_E4M3 else fp4_bytes(source.shape)
    return prod(source.shape) * (FP32_BYTES if _stays_float32(model, name, source) else BF16_BYTES)


def _stored_bytes(model: Description, source: WeightSource) -> int:
    return sum(model.header[name].byte_count for name in (source.name, *source.parts.values()))


def fp8_bytes(shape: Shape) -> int:
    """A weight of `shape` in eight-bit floats with a float32 scale for each row."""
    return prod(shape) + FP32_BYTES * shape[0]


def fp4_bytes(shape: Shape) -> int:
    """A weight of `shape` in NVFP4, with its scales of blocks and the one of all."""
    rows, columns = (_round_up(size, NVFP4_COLUMNS) for size in shape)
    scales = _round_up(rows, SCALE_TILE[0]) * _round_up(columns // NVFP4_COLUMNS, SCALE_TILE[1])
    return rows * columns // 2 + scales + FP32_BYTES


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _stays_float32(model: Description, name: str, source: WeightSource) -> bool:
    """Parameters used in float32 are worth float32 only where the file has it: wider, they would say no more."""
    is_used_so = model.role is Role.TRANSFORMER and keeps_float32(name)
    return is_used_so and bool(source.name) and model.header[source.name].dtype == "F32"
