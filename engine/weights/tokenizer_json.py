"""The `tokenizer.json` that may lie beside a text encoder, taken as the SentencePiece model it was made from. Pure.

Of the file is read what makes ids of a prompt. Whatever else it would do to a text is refused, not passed over, since
the ids would then be others.
"""

import base64
import re
import reprlib
from typing import Any

from engine.models.sentencepiece_model import END_OF_SENTENCE, Kind, Vocabulary
from engine.weights.strict_json import parse_object

SPACES = {"Regex": " {2,}"}
BYTE = re.compile("<0x[0-9A-F]{2}>")
# Never found in a prompt, even if the file does not list them as special.
CONTROLS = frozenset({"<pad>", "<s>", END_OF_SENTENCE})

Added = tuple[int, str, bool]  # a token's id, its piece, and whether it is special: never found in a prompt either


def parse_tokenizer(text: bytes) -> Vocabulary:
    """The vocabulary of a `tokenizer.json` of umT5. Raises ValueError for one of another kind, or damaged."""
    content = parse_object(text)
    model = _object(content, "model")
    if model.get("type") != "Unigram":
        raise ValueError(f"a tokenizer of the type {reprlib.repr(model.get('type'))}; only Unigram can be read")
    pieces, scores = _pieces(model)
    added = sorted(_added(entry) for entry in _list(content, "added_tokens"))
    _append(added, pieces, scores)
    kinds = {piece: Kind.CONTROL if is_special else Kind.USER_DEFINED for _, piece, is_special in added}
    character_map, joins_spaces = _normalizer(content)
    adds_space, splits_at_spaces = _pre_tokenizer(content)
    return Vocabulary(
        pieces=pieces,
        scores=scores,
        kinds=[_kind(model, kinds, id_, piece) for id_, piece in enumerate(pieces)],
        character_map=character_map,
        adds_space=adds_space,
        removes_spaces=joins_spaces or splits_at_spaces,
    )


def _pieces(model: dict[str, Any]) -> tuple[list[str], list[float]]:
    pieces: list[str] = []
    scores: list[float] = []
    for entry in _list(model, "vocab"):
        match entry:
            case [str(piece), float() | int() as score] if type(score) is not bool:
                pieces.append(piece)
                scores.append(score)
            case _:
                raise ValueError(f"entry {len(pieces)} of its vocabulary is {reprlib.repr(entry)}")
    return pieces, scores


def _append(added: list[Added], pieces: list[str], scores: list[float]) -> None:
    """Add to the vocabulary what is not in it yet. Raises ValueError for ids that it has for other pieces, or not."""
    for id_, piece, _ in added:
        if id_ == len(pieces):
            pieces.append(piece)
            scores.append(0.0)
        elif not 0 <= id_ < len(pieces) or pieces[id_] != piece:
            raise ValueError(f"its vocabulary has no place {id_} for {reprlib.repr(piece)}")


def _added(entry: object) -> Added:
    match entry:
        case {"id": int(id_), "content": str(piece), "special": bool(is_special)}:
            return id_, piece, is_special
    raise ValueError(f"one of its added tokens is {reprlib.repr(entry)}")


def _kind(model: dict[str, Any], added: dict[str, Kind], id_: int, piece: str) -> Kind:
    if id_ == model.get("unk_id"):
        return Kind.UNKNOWN
    if model.get("byte_fallback") is True and BYTE.fullmatch(piece):
        return Kind.BYTE
    return Kind.CONTROL if piece in CONTROLS else added.get(piece, Kind.NORMAL)


def _normalizer(content: dict[str, Any]) -> tuple[bytes, bool]:
    """The map of characters, and whether several spaces become one."""
    character_map, joins_spaces = b"", False
    for place, step in enumerate(_steps(content, "normalizer", "normalizers")):
        match step:
            case {"type": "Precompiled", "precompiled_charsmap": str(encoded)} if place == 0:
                character_map = base64.b64decode(encoded, validate=True)
            case {"type": "Replace", "pattern": pattern, "content": " " | "▁"} if pattern == SPACES:
                joins_spaces = True
            case {"type": "Strip"}:  # prompts are stripped already
                pass
            case _:
                raise ValueError(f"it changes text in a way that cannot be read: {reprlib.repr(step)}")
    return character_map, joins_spaces


def _pre_tokenizer(content: dict[str, Any]) -> tuple[bool, bool]:
    """Whether a space is put before the text, and whether words are split at spaces, so that several are as one."""
    match _steps(content, "pre_tokenizer", "pretokenizers"):
        case [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁"} as metaspace]:
            return _adds_space(metaspace), True
        case [{"type": "Metaspace", "replacement": "▁"} as metaspace]:
            return _adds_space(metaspace), False
        case steps:
            raise ValueError(f"it splits text in a way that cannot be read: {reprlib.repr(steps)}")


def _adds_space(metaspace: dict[str, Any]) -> bool:
    """`add_prefix_space` is what versions before 0.15 of the `tokenizers` package wrote."""
    scheme = metaspace.get("prepend_scheme", "always" if metaspace.get("add_prefix_space") is not False else "never")
    return bool(scheme != "never")


def _steps(content: dict[str, Any], name: str, names: str) -> list[Any]:
    """What is done one after the other, alone or in a sequence."""
    step = content.get(name)
    if step is None:
        return []
    return _list(step, names) if isinstance(step, dict) and step.get("type") == "Sequence" else [step]


def _object(content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name)
    if not isinstance(value, dict):
        raise ValueError(f"not a tokenizer: its {name} is {reprlib.repr(value)}")
    return value


def _list(content: dict[str, Any], name: str) -> list[Any]:
    value = content.get(name)
    if not isinstance(value, list):
        raise ValueError(f"not a tokenizer: its {name} is {reprlib.repr(value)}")
    return value
