"""How many bytes a network will take on the card, in each form that it can be loaded in. Pure and torch-free.

Quantised are the products inside the blocks, which hold nearly everything; all other parameters stay what they are:
norms, biases, embeddings, modulation, head, and the paths of time, text and picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
# What the names of a network's blocks begin with, before their number.
BLOCKS = {Role.TRANSFORMER: "blocks.", Role.TEXT_ENCODER: "blocks.", Role.IMAGE_ENCODER: "visual.transformer."}
# What stays in host memory: a table that few rows are read of, and a wide product of a single row a step.
HOST_ONLY = ("token_embedding.", "time_projection.")
WORK_BYTES = 64 << 20  # as `engine.weights.dequantize` has it, which needs torch
NOTHING: Mapping[str, int] = {}
ALL_FORMS = ("bf16", "fp8_scaled", "fp4_scaled", "as_stored")


@dataclass(frozen=True, slots=True)
class NetworkBytes:
    """What a network of blocks takes as it is loaded: each of its blocks, and everything else (the shell).

    work: what one quantised layer works with, beside its input and output. host: what never goes to the card
    (`HOST_ONLY`). loading: the most that loading takes for a moment beside what it leaves there.
    """

    shell: int
    blocks: tuple[int, ...]
    work: int
    host: int = 0
    loading: int = 0

    @property
    def total(self) -> int:
        """Bytes of all parameters, wherever they lie."""
        return self.host + self.shell + sum(self.blocks)


def bytes_on_card(model: Description) -> dict[str, int]:
    """Bytes of all parameters by form; empty for what is no network, and without forms that the role has not."""
    if not model.sources:
        return {}
    forms = ALL_FORMS if model.role in QUANTIZED_ROLES else ("bf16", "as_stored")
    return {form: sum(_bytes(model, name, form) for name in model.sources) for form in forms}


def network_bytes(
    model: Description, form: WeightForm, item_bytes: int, beside: Mapping[str, int] = NOTHING
) -> NetworkBytes:
    """Bytes of the parameters as they are loaded in `form`, plain values with `item_bytes` each.

    beside: bytes of LoRAs that lie beside quantised layers, by the layer's name.
    """
    to = QUANTIZED_FORMS.get(form)
    names = [name for name in model.sources if name not in model.family.unused]
    start = BLOCKS[model.role]
    blocks = [0] * (1 + max((block_of(name, start) for name in names), default=-1))
    host = shell = 0
    for name in names:
        count = _loaded_bytes(model, name, to, item_bytes) + beside.get(name.removesuffix(WEIGHT), 0)
        index = block_of(name, start)
        if index >= 0:
            blocks[index] += count
        elif name.startswith(HOST_ONLY):
            host += count
        else:
            shell += count
    is_quantized = any(is_held_quantized(model, name, to) for name in names)
    return NetworkBytes(shell, tuple(blocks), WORK_BYTES if is_quantized else 0, host)


def stays_in_files(model: Description, form: WeightForm, dtype: str) -> bool:
    """Whether the blocks of `model` are used as their files have them.

    That is plain values in `dtype`, called as files call it, and nothing that `form` makes smaller.
    """
    to = QUANTIZED_FORMS.get(form)
    names = [name for name in model.sources if block_of(name, BLOCKS[model.role]) >= 0]
    return not any(_is_converted(model, name, to, dtype) for name in names)


def _is_converted(model: Description, name: str, to: QuantFormat | None, dtype: str) -> bool:
    source = model.sources[name]
    if source.pieces:
        return True
    if is_held_quantized(model, name, to):
        return to is not None and to is not source.quantization and is_quantized_layer(name.removesuffix(WEIGHT), to)
    as_stored = (*NARROW_FLOATS, "F32") if _is_used_wide(model, name) else (dtype,)
    return source.quantization is not None or _dtype_of(model, source) not in as_stored


def block_of(name: str, start: str) -> int:
    """The number of the block that a parameter belongs to, -1 for none."""
    return int(name.removeprefix(start).partition(".")[0]) if name.startswith(start) else -1


def is_held_quantized(model: Description, name: str, to: QuantFormat | None) -> bool:
    """Whether the parameter `name` stays quantised, or becomes so in the form `to`, when it is loaded."""
    source, layer = model.sources[name], name.removesuffix(WEIGHT)
    if layer == name or len(source.shape) != 2:
        return False
    if to is not None and is_quantized_layer(layer, to):
        return True
    is_linear = not layer.endswith("embedding") and not _is_used_wide(model, name)
    return source.quantization is not None and is_linear and not source.pieces


def _loaded_bytes(model: Description, name: str, to: QuantFormat | None, item_bytes: int) -> int:
    source = model.sources[name]
    if is_held_quantized(model, name, to):
        is_made = to is not None and to is not source.quantization and is_quantized_layer(name.removesuffix(WEIGHT), to)
        if not is_made:
            return _stored_bytes(model, source)
        return fp8_bytes(source.shape) if to is QuantFormat.FP8_E4M3 else fp4_bytes(source.shape)
    if _is_used_wide(model, name):
        return prod(source.shape) * NARROW_FLOATS.get(_dtype_of(model, source), FP32_BYTES)
    return prod(source.shape) * item_bytes


def _is_used_wide(model: Description, name: str) -> bool:
    return model.role is Role.TRANSFORMER and keeps_float32(name)


def _dtype_of(model: Description, source: WeightSource) -> str:
    return model.header[source.name].dtype if source.name else ""


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
    codes, scales = fp4_shapes(shape)
    return prod(codes) + prod(scales) + FP32_BYTES


def fp4_shapes(shape: Shape) -> tuple[Shape, Shape]:
    """The bytes of a weight of `shape` in NVFP4, two values in each, and the scales of its blocks."""
    rows, columns = (_round_up(size, NVFP4_COLUMNS) for size in shape)
    scales = _round_up(rows, SCALE_TILE[0]), _round_up(columns // NVFP4_COLUMNS, SCALE_TILE[1])
    return (rows, columns // 2), scales


def _round_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def _stays_float32(model: Description, name: str, source: WeightSource) -> bool:
    """Parameters used in float32 are worth float32 only where the file has it: wider, they would say no more."""
    return _is_used_wide(model, name) and bool(source.name) and model.header[source.name].dtype == "F32"
