"""Shapes of the change that stored LoRA parts make, worked out before any value is read. Pure.

The forms are those of LyCORIS: low-rank (LoRA, LoCon), Hadamard (LoHa), Kronecker (LoKr), and whole differences.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from engine.weights.lora.names import Part

Shape = tuple[int, ...]
PartShapes = Mapping[Part, Shape]


class Kind(StrEnum):
    """How the parts of a change are put together."""

    LOW_RANK = "low_rank"
    HADAMARD = "hadamard"
    KRONECKER = "kronecker"
    DENSE = "dense"


@dataclass(frozen=True, slots=True)
class Made:
    """A change of `rows` times `columns`, kernels flattened into columns; `rank` is what alpha is divided by."""

    rows: int
    columns: int
    rank: int | None = None


class MisfitError(ValueError):
    """Parts that make no change together; the message says why."""


KINDS = {
    Kind.LOW_RANK: (Part.UP, Part.DOWN, Part.MID),
    Kind.HADAMARD: tuple(part for part in Part if part.startswith("hada")),
    Kind.KRONECKER: tuple(part for part in Part if part.startswith("lokr")),
    Kind.DENSE: (Part.DIFF,),
}


def kind_of(parts: PartShapes) -> Kind | None:
    """The kind of change that `parts` make; None where there is only what goes with one. Raises MisfitError."""
    kinds = [kind for kind, members in KINDS.items() if any(part in parts for part in members)]
    if len(kinds) > 1:
        raise MisfitError(f"two changes at once, {kinds[0]} and {kinds[1]}")
    return kinds[0] if kinds else None


def made(kind: Kind, parts: PartShapes) -> Made:
    """The change of `kind` that parts of these shapes make. Raises MisfitError when they do not fit together."""
    empty = [part for part, shape in parts.items() if 0 in shape]
    if empty:
        raise MisfitError(f"{empty[0]} is empty")
    match kind:
        case Kind.LOW_RANK:
            return _low_rank(parts)
        case Kind.HADAMARD:
            return _hadamard(parts)
        case Kind.KRONECKER:
            return _kronecker(parts)
        case Kind.DENSE:
            shape = without_leading_ones(parts[Part.DIFF])
            return Made(shape[0], prod(shape[1:]))


def without_leading_ones(shape: Shape) -> Shape:
    """`shape` as a modulation keeps it that lost its batch dimension; one dimension stays."""
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape or (1,)


def _low_rank(parts: PartShapes) -> Made:
    (rows, rank), (inner, columns) = _flat(parts, Part.UP), _flat(parts, Part.DOWN)
    if Part.MID not in parts:
        _check_equal(rank, inner, parts)
        return Made(rows, columns, rank)
    _flat(parts, Part.MID)
    outer, middle, *kernel = parts[Part.MID]
    _check_equal((rank, inner), (outer, middle), parts)
    return Made(rows, columns * prod(kernel), inner)


def _hadamard(parts: PartShapes) -> Made:
    if (Part.HADA_T1 in parts) != (Part.HADA_T2 in parts):
        raise MisfitError(f"one of {Part.HADA_T1} and {Part.HADA_T2}, not both")
    first = _product(parts, Part.HADA_W1_A, Part.HADA_W1_B, Part.HADA_T1)
    second = _product(parts, Part.HADA_W2_A, Part.HADA_W2_B, Part.HADA_T2)
    _check_equal((first.rows, first.columns), (second.rows, second.columns), parts)
    return first


def _kronecker(parts: PartShapes) -> Made:
    first = _whole_or_product(parts, Part.LOKR_W1, (Part.LOKR_W1_A, Part.LOKR_W1_B, None))
    second = _whole_or_product(parts, Part.LOKR_W2, (Part.LOKR_W2_A, Part.LOKR_W2_B, Part.LOKR_T2))
    rank = first.rank if second.rank is None else second.rank
    return Made(first.rows * second.rows, first.columns * second.columns, rank)


def _whole_or_product(parts: PartShapes, whole: Part, factors: tuple[Part, Part, Part | None]) -> Made:
    if whole not in parts:
        return _product(parts, *factors)
    both = [part for part in factors if part in parts]
    if both:
        raise MisfitError(f"both {whole} and {both[0]}")
    return Made(*_flat(parts, whole))


def _product(parts: PartShapes, a: Part, b: Part, core: Part | None) -> Made:
    """a [rows, rank] @ b [rank, columns], or the Tucker form core [i, j, kernel], a [i, rows], b [j, columns]."""
    (rows, rank), (inner, columns) = _flat(parts, a), _flat(parts, b)
    if core is None or core not in parts:
        _check_equal(rank, inner, parts)
        return Made(rows, columns, inner)
    _flat(parts, core)
    outer, middle, *kernel = parts[core]
    _check_equal((rows, inner), (outer, middle), parts)
    return Made(rank, columns * prod(kernel), inner)


def _flat(parts: PartShapes, part: Part) -> tuple[int, int]:
    if part not in parts:
        raise MisfitError(f"without its {part}")
    shape = parts[part]
    if len(shape) < 2:
        raise MisfitError(f"{part} {list(shape)} is no matrix")
    return shape[0], prod(shape[1:])


def _check_equal(found: object, wanted: object, parts: PartShapes) -> None:
    if found != wanted:
        said = ", ".join(f"{part} {list(shape)}" for part, shape in parts.items())
        raise MisfitError(f"its parts do not fit together: {said}")
