"""SentencePiece models as the bytes that their library loads, written from a vocabulary. Pure and torch-free.

The bytes are a protocol buffer, `ModelProto` of the published sentencepiece_model.proto: each field is a key, the
field's number and how its value is stored, and the value. The ids of the special pieces need no fields of their own;
the library finds them by the pieces' kinds and names.
"""

import reprlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

VARINT, SIZED, FLOAT = 0, 2, 5  # how values are stored
PIECES, TRAINER, NORMALIZER = 1, 2, 3  # fields of the model
PIECE, SCORE, KIND = 1, 2, 3  # of a piece
MODEL_TYPE, BYTE_FALLBACK = 3, 35  # of the trainer
CHARACTER_MAP, ADDS_SPACE, REMOVES_SPACES = 2, 3, 4  # of the normaliser
UNIGRAM = 1
LARGEST_SCORE = 1e30  # far beyond any, and within what 32 bits hold
END_OF_SENTENCE = "</s>"


class Kind(IntEnum):
    """What a piece is for, as SentencePiece numbers it."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The pieces of a SentencePiece unigram model by their ids.

    scores: logarithms of probabilities. kinds: numbers of `Kind`. character_map: the normaliser as SentencePiece
    compiles it, empty for none. adds_space: before the text. removes_spaces: around the text and all but one of
    several within.
    """

    pieces: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    character_map: bytes
    adds_space: bool = True
    removes_spaces: bool = True


def serialized_model(vocabulary: Vocabulary) -> bytes:
    """A unigram model with this vocabulary. Raises ValueError for lists that differ in length or hold what none may.

    Pieces that are bytes are what characters fall back to that no other piece has.
    """
    entries = zip(vocabulary.pieces, vocabulary.scores, vocabulary.kinds, strict=True)
    pieces = b"".join(_sized(PIECES, _piece(*entry)) for entry in entries)
    trainer = _number(MODEL_TYPE, UNIGRAM) + _number(BYTE_FALLBACK, Kind.BYTE in vocabulary.kinds)
    normalizer = _sized(CHARACTER_MAP, vocabulary.character_map)
    normalizer += _number(ADDS_SPACE, vocabulary.adds_space) + _number(REMOVES_SPACES, vocabulary.removes_spaces)
    return pieces + _sized(TRAINER, trainer) + _sized(NORMALIZER, normalizer)


def _piece(piece: str, score: float, kind: int) -> bytes:
    if not abs(score) <= LARGEST_SCORE:  # nor when it is no number
        raise ValueError(f"the score of {reprlib.repr(piece)} is {reprlib.repr(score)}")
    stored_score = _key(SCORE, FLOAT) + struct.pack("<f", score)
    return _sized(PIECE, piece.encode()) + stored_score + _number(KIND, Kind(kind))


def _sized(field: int, content: bytes) -> bytes:
    return _key(field, SIZED) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _key(field, VARINT) + _varint(value)


def _key(field: int, stored: int) -> bytes:
    return _varint(field << 3 | stored)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have the eighth."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
