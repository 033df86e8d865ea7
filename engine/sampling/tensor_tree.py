"""What a sampler remembers, whatever it is made of, taken apart into JSON and tensors and put together again.

Dataclasses, tuples, lists, dicts, numbers, texts, None and tensors; a tensor that is met twice is kept once. Pure.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

PLAIN = (type(None), bool, int, float, str)

Kinds = Mapping[str, type]
"""The dataclasses that may be met, by their names."""


def kinds_of(*kinds: type) -> Kinds:
    """Dataclasses by the names that they are kept under."""
    return {kind.__name__: kind for kind in kinds}


def take_apart(value: object, kinds: Kinds) -> tuple[Any, list[Tensor]]:
    """`value` as what JSON can say, and the tensors in it. Raises TypeError for anything that would not come back."""
    found: dict[int, Tensor] = {}
    plan = _planned(value, kinds, found)
    return plan, list(found.values())


def _planned(value: object, kinds: Kinds, found: dict[int, Tensor]) -> Any:  # noqa: ANN401 - JSON has no other type
    if type(value) in PLAIN:  # and no kind of one, which would come back as the plain one
        return value
    if isinstance(value, Tensor):
        found.setdefault(id(value), value)
        return {"tensor": list(found).index(id(value))}
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return {type(value).__name__: [_planned(each, kinds, found) for each in value]}
    if type(value) is dict:
        pairs = [[name, each] for name, each in value.items()]
        return {"dict": _planned(pairs, kinds, found)}
    name = type(value).__name__
    if kinds.get(name) is not type(value) or not dataclasses.is_dataclass(value):
        raise TypeError(f"a {name} cannot be kept")
    fields = {field.name: _planned(getattr(value, field.name), kinds, found) for field in dataclasses.fields(value)}
    return {"kind": name, "fields": fields}


def put_together(plan: Any, tensors: Sequence[Tensor], kinds: Kinds) -> Any:  # noqa: ANN401 - what was taken apart
    """What `take_apart` made `plan` and `tensors` of. Raises ValueError for what it cannot have made of these kinds."""
    if type(plan) in PLAIN:
        return plan
    try:
        return _rebuilt(plan, tensors, kinds)
    except (TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _rebuilt(plan: Any, tensors: Sequence[Tensor], kinds: Kinds) -> Any:  # noqa: ANN401 - what was taken apart
    if type(plan) in PLAIN:
        return plan
    match plan:
        case {"tensor": int(index)} if index >= 0:
            return tensors[index]
        case {"tuple": list(parts)}:
            return tuple(_rebuilt(part, tensors, kinds) for part in parts)
        case {"list": list(parts)}:
            return [_rebuilt(part, tensors, kinds) for part in parts]
        case {"dict": pairs}:
            return {name: value for name, value in _rebuilt(pairs, tensors, kinds)}  # noqa: C416 - pairs are lists
        case {"kind": str(name), "fields": dict(fields)}:
            return _kind(name, fields, kinds)(**{key: _rebuilt(each, tensors, kinds) for key, each in fields.items()})
        case _:
            raise ValueError("it is not made of anything known")


def _kind(name: str, fields: Mapping[str, object], kinds: Kinds) -> type:
    """The dataclass `name`. Raises ValueError unless it has exactly these `fields`."""
    kind = kinds.get(name)
    if kind is None or {field.name for field in dataclasses.fields(kind)} != fields.keys():
        raise ValueError(f"this program knows no {name} of {', '.join(fields) or 'nothing'}")
    return kind
