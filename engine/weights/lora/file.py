"""A LoRA file beside the network it is for: what it changes, what of it does not apply, and the values when asked.

All shapes are checked from the header alone. Lives on the engine's thread.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.finite import check_finite
from engine.weights.header import Header, invalid
from engine.weights.lora.deltas import Delta, Dense, Dora, Hadamard, Kronecker, LowRank, PlainDelta
from engine.weights.lora.names import NameMap, Part
from engine.weights.lora.shapes import Kind, Made, MisfitError, Shape, kind_of, made, without_leading_ones

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")
INTEGERS = ("I64", "I32", "I16", "I8", "U8")  # which some programs store alpha as
PATCH_EMBEDDING = ("patch_embedding.weight", "patch_embedding.bias")
WHOLE_OR_FIRST = ((Part.LOKR_W1, Part.LOKR_W1_A), (Part.LOKR_W2, Part.LOKR_W2_A))  # of which LoKr has one each
MISMATCHES_SHOWN = 5


class Skip(StrEnum):
    """Why a change is left out that other models of the family take."""

    IMAGE_BRANCH = "image_branch"  # of an image-to-video model, and this one has none
    PATCH_EMBEDDING = "patch_embedding"  # trained for another number of input channels


@dataclass(frozen=True, slots=True)
class DeltaSource:
    """Stored names of the parts of one change, the size of what they make, and the `shape` of the parameter."""

    kind: Kind
    parts: Mapping[Part, str]
    change: Made
    shape: Shape


@dataclass(frozen=True, slots=True)
class LoraFile:
    """The changes by official parameter name. Each stored tensor is part of one, skipped, or unmatched."""

    checkpoint: Checkpoint
    sources: dict[str, DeltaSource]
    skipped: dict[str, Skip]  # by stored name
    unmatched: list[str]  # stored names

    def delta(self, parameter: str) -> Delta:
        """The change of `parameter`, in the file's dtypes. Raises MODEL_INVALID when values are not finite."""
        source = self.sources[parameter]
        names: dict[Part, str] = {part: name for part, name in source.parts.items() if part != Part.ALPHA}
        values = {part: self._read(name) for part, name in names.items()}
        magnitude = values.pop(Part.MAGNITUDE, None)
        plain = _plain(source.kind, values, self._scale(source))
        return plain if magnitude is None else Dora(plain, _oriented(magnitude, source.shape))

    def _scale(self, source: DeltaSource) -> float:
        name = source.parts.get(Part.ALPHA)
        if name is None or source.change.rank is None:
            return 1.0
        return float(self._read(name).item()) / source.change.rank

    def _read(self, name: str) -> Tensor:
        tensor = self.checkpoint.read(name)
        if tuple(tensor.shape) != self.checkpoint.header[name].shape:
            raise invalid(self.checkpoint.files[0], f"{name} is {list(tensor.shape)}, not as its header says")
        check_finite(name, tensor, self.checkpoint.files[0])
        # bfloat16 holds every value of float8, and can be calculated with
        return tensor.to(torch.bfloat16) if tensor.is_floating_point() and tensor.itemsize == 1 else tensor


def parse_lora(checkpoint: Checkpoint, shapes: Mapping[str, Shape]) -> LoraFile:
    """What the LoRA in `checkpoint` changes of the network whose official parameters have these `shapes`.

    Raises MODEL_INVALID: for parts that do not fit together, shapes that are another model's, or nothing to change.
    """
    groups, unmatched = _grouped(checkpoint, shapes)
    skipped: dict[str, Skip] = {}
    sources: dict[str, DeltaSource] = {}
    for parameter, parts in groups.items():
        if parameter not in shapes:
            skipped |= dict.fromkeys(parts.values(), Skip.IMAGE_BRANCH)
            continue
        source = _source(checkpoint, parameter, parts, shapes[parameter])
        if source is not None:
            sources[parameter] = source
        unmatched += [name for name in parts.values() if source is None or name not in source.parts.values()]
    skipped |= _without_mismatches(checkpoint, sources)
    if not sources:
        raise invalid(checkpoint.files[0], "it is no LoRA for this model: nothing in it changes one of its layers")
    return LoraFile(checkpoint, sources, skipped, unmatched)


def _grouped(checkpoint: Checkpoint, shapes: Mapping[str, Shape]) -> tuple[dict[str, dict[Part, str]], list[str]]:
    """Stored names by parameter and part, and those that are no part of a change of this network."""
    names = NameMap(shapes)
    groups: dict[str, dict[Part, str]] = {}
    unmatched: list[str] = []
    for stored in checkpoint.header:
        place = names.locate(stored)
        if place is None:
            unmatched.append(stored)
            continue
        other = groups.setdefault(place.parameter, {}).setdefault(place.part, stored)
        if other != stored:
            raise invalid(checkpoint.files[0], f"both {other} and {stored} are the {place.part} of {place.parameter}")
    return groups, unmatched


def _source(checkpoint: Checkpoint, parameter: str, parts: dict[Part, str], shape: Shape) -> DeltaSource | None:
    """The change that `parts` make, whatever shape it has; None for parts without one."""
    stored = {part: checkpoint.header[name].shape for part, name in parts.items()}
    try:
        kind = kind_of(stored)
        if kind is None:
            return None
        if kind is Kind.DENSE:  # is added as it is, whatever lies beside it
            parts = {Part.DIFF: parts[Part.DIFF]}
        _check_dtypes(checkpoint.header, parts)
        change = made(kind, {part: stored[part] for part in parts if part not in (Part.ALPHA, Part.MAGNITUDE)})
        _check_scalars(stored, parts, shape)
    except MisfitError as error:
        raise invalid(checkpoint.files[0], f"{parameter}: {error}") from error
    return DeltaSource(kind, parts, change, shape)


def _check_dtypes(header: Header, parts: dict[Part, str]) -> None:
    for part, name in parts.items():
        allowed = FLOATS + INTEGERS if part is Part.ALPHA else FLOATS
        if header[name].dtype not in allowed:
            raise MisfitError(f"{part} is stored as {header[name].dtype}")


def _check_scalars(stored: Mapping[Part, Shape], parts: dict[Part, str], shape: Shape) -> None:
    if Part.ALPHA in parts and math.prod(stored[Part.ALPHA]) != 1:
        raise MisfitError(f"alpha {list(stored[Part.ALPHA])} is not one number")
    if Part.MAGNITUDE in parts and _magnitude_shape(stored[Part.MAGNITUDE], shape) is None:
        raise MisfitError(f"dora_scale {list(stored[Part.MAGNITUDE])} is for no weight {list(shape)}")


def _without_mismatches(checkpoint: Checkpoint, sources: dict[str, DeltaSource]) -> dict[str, Skip]:
    """Take changes of another shape out of `sources`, if the patch embedding's; else refuse the file."""
    wrong = {name: source for name, source in sources.items() if not _fits(source)}
    weight = PATCH_EMBEDDING[0]
    skipped: dict[str, Skip] = {}
    if weight in wrong and wrong[weight].change.rows == wrong[weight].shape[0]:
        del wrong[weight]
        for name in PATCH_EMBEDDING:  # the bias was trained together with the weight
            parts = sources.pop(name).parts.values() if name in sources else ()
            skipped |= dict.fromkeys(parts, Skip.PATCH_EMBEDDING)
    if wrong:
        raise invalid(checkpoint.files[0], _said_mismatches(wrong))
    return skipped


def _fits(source: DeltaSource) -> bool:
    change, own = source.change, without_leading_ones(source.shape)
    sizes = [(shape[0], math.prod(shape[1:])) for shape in (own, source.shape) if shape]
    return (change.rows, change.columns) in sizes


def _said_mismatches(wrong: dict[str, DeltaSource]) -> str:
    said = [
        f"{name} is changed as {source.change.rows}x{source.change.columns} where this model has {list(source.shape)}"
        for name, source in list(wrong.items())[:MISMATCHES_SHOWN]
    ]
    more = f" and {len(wrong) - len(said)} more" if len(wrong) > len(said) else ""
    return f"it is for another model: {', '.join(said)}{more}"


def _magnitude_shape(stored: Shape, shape: Shape) -> Shape | None:
    """The shape in which a stored magnitude is multiplied with a weight of `shape`; None if it is for another.

    Per row where its first dim is that of the weight, else per column.
    """
    if len(shape) < 2 or not stored:
        return None
    count, others = math.prod(stored), (1,) * (len(shape) - 2)
    if stored[0] == shape[0] == count:
        return (shape[0], 1, *others)
    return (1, shape[1], *others) if count == shape[1] and 0 not in shape else None


def _oriented(magnitude: Tensor, shape: Shape) -> Tensor:
    oriented = _magnitude_shape(tuple(magnitude.shape), shape)
    assert oriented is not None, "checked when the file was parsed"
    return magnitude.view(oriented)


def _plain(kind: Kind, values: dict[Part, Tensor], scale: float) -> PlainDelta:
    match kind:
        case Kind.LOW_RANK:
            return LowRank(values[Part.UP], values[Part.DOWN], values.get(Part.MID), scale)
        case Kind.HADAMARD:
            a1, b1, a2, b2 = (values[p] for p in (Part.HADA_W1_A, Part.HADA_W1_B, Part.HADA_W2_A, Part.HADA_W2_B))
            return Hadamard(a1, b1, a2, b2, values.get(Part.HADA_T1), values.get(Part.HADA_T2), scale)
        case Kind.KRONECKER:
            a1, a2 = (values[a if a in values else whole] for whole, a in WHOLE_OR_FIRST)
            others = (values.get(Part.LOKR_W1_B), a2, values.get(Part.LOKR_W2_B), values.get(Part.LOKR_T2))
            return Kronecker(a1, *others, scale)
        case Kind.DENSE:
            return Dense(values[Part.DIFF])
