"""The tokenizer that a GGUF file of a text encoder carries in its metadata. Lives on the engine's thread."""

from pathlib import Path

from engine.models.sentencepiece_model import Vocabulary
from engine.weights.gguf_fields import INTEGERS, NUMBERS, TEXT, ArrayField, Fields, open_fields, shown
from engine.weights.gguf_header import GgufHeader, parse_header

MODEL_KEY, MODEL = "tokenizer.ggml.model", "t5"  # the name that GGUF has for unigram models
PIECES_KEY = "tokenizer.ggml.tokens"
SCORES_KEY = "tokenizer.ggml.scores"
KINDS_KEY = "tokenizer.ggml.token_type"
CHARACTER_MAP_KEY = "tokenizer.ggml.precompiled_charsmap"
ADDS_SPACE_KEY = "tokenizer.ggml.add_space_prefix"
REMOVES_SPACES_KEY = "tokenizer.ggml.remove_extra_whitespaces"


def read_tokenizer(file: Path) -> Vocabulary:
    """The tokenizer of a GGUF `file`. Raises MODEL_INVALID for none or one of another kind, and when it is damaged."""
    with open_fields(file) as fields:
        header = parse_header(fields)
        if (model := header.metadata.get(MODEL_KEY, MODEL)) != MODEL:
            raise ValueError(f"a tokenizer of the type {shown(model)}; only {MODEL} can be read")
        pieces = fields.texts(_array(header, PIECES_KEY, frozenset({TEXT})))
        scores = fields.numbers(_array(header, SCORES_KEY, frozenset(NUMBERS)))
        kinds = fields.numbers(_array(header, KINDS_KEY, INTEGERS))
        if not len(pieces) == len(scores) == len(kinds):
            raise ValueError(f"its tokenizer has {len(pieces)} pieces, {len(scores)} scores and {len(kinds)} kinds")
        return Vocabulary(
            pieces=pieces,
            scores=tuple(map(float, scores)),
            kinds=tuple(map(int, kinds)),
            character_map=_character_map(header, fields),
            adds_space=header.metadata.get(ADDS_SPACE_KEY) != "false",
            removes_spaces=header.metadata.get(REMOVES_SPACES_KEY) != "false",
        )


def _character_map(header: GgufHeader, fields: Fields) -> bytes:
    if CHARACTER_MAP_KEY not in header.arrays:
        return b""
    byte_kinds = frozenset({0, 1})  # writers disagree on whether bytes have a sign
    return bytes(int(byte) & 0xFF for byte in fields.numbers(_array(header, CHARACTER_MAP_KEY, byte_kinds)))


def _array(header: GgufHeader, key: str, kinds: frozenset[int]) -> ArrayField:
    field = header.arrays.get(key)
    if field is None or field.kind not in kinds:
        raise ValueError(f"it has no tokenizer: {key} is missing or of another type")
    return field
