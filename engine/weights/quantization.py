"""In which form each weight of a file is stored, from dtypes, scales beside it and what the file declares. Pure.

All names here are official ones with the stored endings; `stored` names are those of the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from engine.weights.declared import COMFY_QUANT, Declared
from engine.weights.expected import Shape
from engine.weights.gguf_types import QUANTIZED_TYPES
from engine.weights.header import Header, TensorInfo
from engine.weights.source import Part, QuantFormat, WeightSource

FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
FP8 = {"F8_E4M3": QuantFormat.FP8_E4M3, "F8_E5M2": QuantFormat.FP8_E5M2}
STORED_IN = {
    QuantFormat.FP8_E4M3: ("F8_E4M3",),
    QuantFormat.FP8_E5M2: ("F8_E5M2",),
    QuantFormat.MXFP8: ("F8_E4M3",),
    QuantFormat.NVFP4: ("U8", "F4"),
    QuantFormat.INT8: ("I8",),
}
PADDING = {QuantFormat.MXFP8: 32, QuantFormat.NVFP4: 16}  # multiples to which rows and columns are filled up
ROTATION_COLUMNS = 256  # of a group, where a file that says it was rotated does not say how

WEIGHT = ".weight"
QUANTO_WEIGHT = ".weight._data"
# How the tensors beside a weight end, after its layer.
PARTS = {
    ".scale_weight": Part.WEIGHT_SCALE,
    ".weight_scale": Part.WEIGHT_SCALE,
    ".weight._scale": Part.WEIGHT_SCALE,
    ".weight_scale_2": Part.WEIGHT_SCALE_2,
    ".alpha": Part.WEIGHT_SCALE_2,
    ".scale_input": Part.INPUT_SCALE,
    ".input_scale": Part.INPUT_SCALE,
    ".input_global_scale": Part.INPUT_SCALE,
    ".pre_quant_scale": Part.PRE_QUANT_SCALE,
}
LIGHTX2V = (".alpha", ".input_global_scale")  # whose bytes hold the even column in their low half
# What formats that are not read have beside a weight.
REFUSED_ENDINGS = {
    ".weight_s_rel": "asym_w4a8_int8",
    ".weight_s_channel": "asym_w4a8_int8",
    ".weight_zeros": "awq_w4a16",
    ".weight._shift": "quanto int4",
}
NOT_NEEDED = (".output_scale", COMFY_QUANT)


@dataclass(slots=True)
class WeightTensors:
    """The tensors of one parameter: its own, and by part those beside it, all by their stored names."""

    name: str
    info: TensorInfo
    parts: dict[Part, str] = field(default_factory=dict)
    declared: Declared = field(default_factory=dict)
    is_lightx2v: bool = False

    @property
    def value_shape(self) -> Shape:
        """The shape of the values, padding included; bytes hold two of them."""
        is_packed = self.info.dtype == "U8" and len(self.info.shape) == 2
        return (self.info.shape[0], 2 * self.info.shape[1]) if is_packed else self.info.shape


def gather(named: Mapping[str, str], header: Header, declared: Mapping[str, Declared]) -> dict[str, WeightTensors]:
    """The tensors of each parameter, from the stored by the official names. Raises ValueError for a refused format.

    What stands beside no weight is a parameter of its own name; it will turn out as unexpected.
    """
    weights: dict[str, WeightTensors] = {}
    beside: list[tuple[str, str]] = []
    for official, stored in named.items():
        if layer_and_ending(official) is None:
            parameter = official.removesuffix("._data") if official.endswith(QUANTO_WEIGHT) else official
            weights[parameter] = WeightTensors(stored, header[stored])
        else:
            beside.append((official, stored))
    for official, stored in beside:
        _attach(weights, official, WeightTensors(stored, header[stored]))
    for layer, format_of_layer in declared.items():
        if layer + WEIGHT in weights:
            weights[layer + WEIGHT].declared = format_of_layer
    return weights


def layer_and_ending(official: str) -> tuple[str, str] | None:
    """The layer beside whose weight the tensor called `official` stands, and its ending; None for a parameter."""
    for ending in (*PARTS, *REFUSED_ENDINGS, *NOT_NEEDED):
        if official.endswith(ending):
            return official.removesuffix(ending), ending
    return None


def _attach(weights: dict[str, WeightTensors], official: str, tensor: WeightTensors) -> None:
    layer, ending = layer_and_ending(official) or ("", "")
    if ending in REFUSED_ENDINGS:
        raise ValueError(f"weights in the format {REFUSED_ENDINGS[ending]} are not supported: {layer}")
    weight = weights.get(layer + WEIGHT)
    if weight is None:
        weights[official] = tensor
        return
    weight.is_lightx2v |= ending in LIGHTX2V
    if ending in PARTS and weight.parts.setdefault(PARTS[ending], tensor.name) != tensor.name:
        raise ValueError(f"two tensors for one: {weight.parts[PARTS[ending]]}, {tensor.name}")


def quant_format(parameter: str, weight: WeightTensors, header: Header) -> QuantFormat | None:
    """The form of a parameter; None for plain floats. Raises ValueError, naming it, for one that is not read."""
    dtype = weight.info.dtype
    if "format" in weight.declared:
        return _declared_format(parameter, weight)
    if dtype in FLOATS:
        return None
    scale = weight.parts.get(Part.WEIGHT_SCALE)
    scale_dtype = None if scale is None else header[scale].dtype
    if dtype == "F8_E4M3" and scale_dtype in ("U8", "F8_E8M0"):
        return QuantFormat.MXFP8
    if dtype in FP8:
        return FP8[dtype]
    if dtype in STORED_IN[QuantFormat.NVFP4] and scale_dtype == "F8_E4M3" and Part.WEIGHT_SCALE_2 in weight.parts:
        return QuantFormat.NVFP4
    if dtype == "I8" and scale_dtype in FLOATS:
        return QuantFormat.INT8
    if dtype in QUANTIZED_TYPES:
        return QuantFormat.GGUF
    raise ValueError(f"{parameter} is stored as {dtype}, and not in a form that is known")


def _declared_format(parameter: str, weight: WeightTensors) -> QuantFormat:
    said = weight.declared["format"]
    if said not in list(QuantFormat) or said == QuantFormat.GGUF:
        raise ValueError(f"weights in the format {said} are not supported: {parameter}")
    expected = STORED_IN[QuantFormat(said)]
    if weight.info.dtype not in expected:
        raise ValueError(f"{parameter} is said to be {said}, and is stored as {weight.info.dtype}, not {expected[0]}")
    if Part.WEIGHT_SCALE not in weight.parts:
        raise ValueError(f"{parameter} is said to be {said}, and has no scale")
    return QuantFormat(said)


def source_of(parameter: str, weight: WeightTensors, shape: Shape, header: Header) -> WeightSource:
    """Where and how the parameter of `shape` is stored.

    Raises ValueError, naming it, for another shape and for a format or scale that is not read.
    """
    form = quant_format(parameter, weight, header)
    if not _fits(form, weight.value_shape, shape):
        raise ValueError(f"wrong shape: {parameter} {list(weight.value_shape)} instead of {list(shape)}")
    if form is None and Part.WEIGHT_SCALE in weight.parts:
        raise ValueError(f"{parameter} is stored as {weight.info.dtype}, and has a scale")
    if form in (QuantFormat.FP8_E4M3, QuantFormat.FP8_E5M2, QuantFormat.INT8):
        _check_scale(parameter, weight, header)
    if form is QuantFormat.NVFP4 and Part.WEIGHT_SCALE_2 not in weight.parts:
        raise ValueError(f"{parameter} has no second scale")
    return WeightSource(
        name=weight.name,
        shape=shape,
        quantization=form,
        parts=weight.parts,
        rotation=_rotation(parameter, weight.declared),
        low_nibble_first=form is QuantFormat.NVFP4 and weight.is_lightx2v,
    )


def _fits(form: QuantFormat | None, stored: Shape, shape: Shape) -> bool:
    """Whether `stored` values are those of `shape`, padded or, as they are, seen otherwise."""
    if stored == shape:
        return True
    if form in PADDING and len(shape) == 2:
        return stored == tuple(-(-size // PADDING[form]) * PADDING[form] for size in shape)
    if form is None or form is QuantFormat.GGUF:
        return _without_ones(stored) == _without_ones(shape) or (len(shape) == 5 and prod(stored) == prod(shape))
    return False


def _without_ones(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def _check_scale(parameter: str, weight: WeightTensors, header: Header) -> None:
    """One scale for all, or one a row."""
    scale = weight.parts.get(Part.WEIGHT_SCALE)
    shape = () if scale is None else header[scale].shape
    if prod(shape) not in (1, (weight.info.shape or (1,))[0]) or len(_without_ones(shape)) > 1:
        raise ValueError(f"{parameter} has a scale of the shape {list(shape)}")


def _rotation(parameter: str, declared: Declared) -> int:
    if not declared.get("convrot"):
        return 0
    columns = declared.get("convrot_groupsize", ROTATION_COLUMNS)
    if type(columns) is not int or columns < 1:
        raise ValueError(f"{parameter} is said to be rotated in groups of {columns!r}")
    return columns


def form_name(source: WeightSource, header: Header) -> str:
    """How a stored parameter's form is called: a format's name, a float type's, or the type of GGUF's blocks."""
    dtype = header[source.name].dtype
    if source.quantization is QuantFormat.GGUF:
        return dtype
    return FLOATS[dtype] if source.quantization is None else source.quantization
