"""The tokenizer that a GGUF file of a text encoder carries in its metadata. Lives on the engine's thread."""

from dataclasses import dataclass
from pathlib import Path

from engine.weights.gguf_fields import INTEGERS, NUMBERS, TEXT, ArrayField, Fields, open_fields
from engine.weights.gguf_header import GgufHeader, parse_header

PIECES_KEY = "tokenizer.ggml.tokens"
SCORES_KEY = "tokenizer.ggml.scores"
KINDS_KEY = "tokenizer.ggml.token_type"
CHARACTER_MAP_KEY = "tokenizer.ggml.precompiled_charsmap"


@dataclass(frozen=True, slots=True)
class GgufTokenizer:
    """The pieces of a SentencePiece unigram model by their ids.

    scores: logarithms of probabilities. kinds: as SentencePiece numbers them, 1 normal, 2 unknown, 3 control, 4 user
    defined, 5 unused, 6 byte. character_map: the normaliser as SentencePiece compiles it, empty for none.
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    character_map: bytes


def read_tokenizer(file: Path) -> GgufTokenizer:
    """The tokenizer of a GGUF `file`. Raises MODEL_INVALID when it has none or the file is damaged."""
    with open_fields(file) as fields:
        header = parse_header(fields)
        pieces = fields.texts(_array(header, PIECES_KEY, frozenset({TEXT})))
        scores = fields.numbers(_array(header, SCORES_KEY, frozenset(NUMBERS)))
        kinds = fields.numbers(_array(header, KINDS_KEY, INTEGERS))
        if not len(pieces) == len(scores) == len(kinds):
            raise ValueError(f"its tokenizer has {len(pieces)} pieces, {len(scores)} scores and {len(kinds)} kinds")
        return GgufTokenizer(pieces, tuple(map(float, scores)), tuple(map(int, kinds)), _character_map(header, fields))


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
