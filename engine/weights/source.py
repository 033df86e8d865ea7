"""Where the values of a network's parameters lie in a checkpoint, and in which form. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class QuantFormat(StrEnum):
    """How a weight is stored that is not stored as plain floats; Comfy's names where it has one."""

    FP8_E4M3 = "float8_e4m3fn"
    FP8_E5M2 = "float8_e5m2"
    MXFP8 = "mxfp8"
    NVFP4 = "nvfp4"
    INT8 = "int8_tensorwise"
    GGUF = "gguf"  # the type of the blocks is the stored tensor's dtype


class Part(StrEnum):
    """What a quantised weight needs besides its own tensor; the names of Comfy's quantisation metadata."""

    WEIGHT_SCALE = "weight_scale"
    WEIGHT_SCALE_2 = "weight_scale_2"
    INPUT_SCALE = "input_scale"
    PRE_QUANT_SCALE = "pre_quant_scale"


@dataclass(frozen=True, slots=True)
class WeightSource:
    """The stored tensor `name` and the `parts` that turn it into values of `shape`.

    quantization: None for values as they are, in whichever float type. rotation: columns of the groups that int8
    weights were rotated in, 0 for none. low_nibble_first: which half of a byte of NVFP4 holds the even column.

    Values as they are may be stored in another shape of as many; they are to be viewed as `shape`. Quantised ones may
    be stored with rows and columns of padding, which are to be cut off. pieces: where one parameter is stored as
    several tensors (fused projections), these in order; joined along dim 0 they have `shape`, and `name` is empty.
    """

    name: str
    shape: tuple[int, ...]
    quantization: QuantFormat | None = None
    parts: Mapping[Part, str] = field(default_factory=dict)
    rotation: int = 0
    low_nibble_first: bool = False
    pieces: tuple["WeightSource", ...] = ()


Sources = dict[str, WeightSource]  # by the official parameter name
