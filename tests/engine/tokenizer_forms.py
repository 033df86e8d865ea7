"""One SentencePiece model in all forms in which tokenizers come, and its fields read back from its bytes."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from engine.errors import EngineError, ErrorCode
from engine.models.sentencepiece_model import Vocabulary
from engine.weights.tokenizer_source import read_sentencepiece
from resources.mini.world import all_captions, wording

SENTENCES = (
    "红色 的 球 在 桌子 上 跳",
    "一只 猫 在 雪地 里 奔跑",
    "zebra & quokka, slowly: 12 frames!",
    "ÄÖÜ ñandú garçon",
)
Field = tuple[int, int | bytes]
TINY = Vocabulary(
    ("<pad>", "</s>", "<s>", "<unk>", "▁", "a", "b"), (0.0, 0.0, 0.0, 0.0, -1.0, -2.0, -3.0), (3, 3, 3, 2, 1, 1, 1), b""
)


def train_unigram() -> bytes:
    """A unigram model with umT5's special ids that falls back to bytes, as `spiece.model` has it."""
    model, rng = io.BytesIO(), np.random.default_rng(0)
    captions = [wording(caption, rng) for caption in all_captions()[:200]]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*captions, *SENTENCES * 30]), model_writer=model, vocab_size=520,
        model_type="unigram", byte_fallback=True, hard_vocab_limit=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        user_defined_symbols=["<extra>"], minloglevel=2,
    )  # fmt: skip
    return model.getvalue()


def fields(message: bytes) -> Iterator[Field]:
    """The fields of a protocol buffer by their numbers, in its order."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, stored = key >> 3, key & 7
        if stored == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        size, at = (4, at) if stored == 5 else _varint(message, at)
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if message[at - 1] < 0x80:
            return value, at


def vocabulary_of(model: bytes) -> Vocabulary:
    """What the bytes of a `spiece.model` say."""
    pieces = [dict(fields(_bytes(value))) for number, value in fields(model) if number == 1]
    normalizer = dict(fields(_bytes(dict(fields(model))[3])))
    return Vocabulary(
        pieces=[_bytes(piece[1]).decode() for piece in pieces],
        scores=[struct.unpack("<f", _bytes(piece[2]))[0] for piece in pieces],
        kinds=[int(piece.get(3, 1)) for piece in pieces],
        character_map=_bytes(normalizer[2]),
    )


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def write_embedded(model: bytes, path: Path) -> Path:
    """A text encoder of ComfyUI."""
    tensors = {
        "shared.weight": torch.zeros(4, 4),
        "spiece_model": torch.frombuffer(bytearray(model), dtype=torch.uint8),
    }
    save_file(tensors, path)
    return path


def write_gguf(vocabulary: Vocabulary, path: Path, padding: int = 3) -> Path:
    """A text encoder as llama.cpp's converter writes it, its vocabulary padded up to the rows of the embedding."""
    writer = GGUFWriter(path, "t5encoder")
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([*vocabulary.pieces, *(f"[PAD{i}]" for i in range(padding))])
    writer.add_token_scores([*vocabulary.scores, *(-10000.0,) * padding])
    writer.add_token_types([*vocabulary.kinds, *(5,) * padding])
    writer.add_add_space_prefix(vocabulary.adds_space)
    writer.add_remove_extra_whitespaces(vocabulary.removes_spaces)
    if vocabulary.character_map:
        writer.add_precompiled_charsmap(vocabulary.character_map)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def write_json(vocabulary: Vocabulary, path: Path, *, splits: bool = False, falls_back: bool = True) -> Path:
    """As the `tokenizers` package writes it, in the older form (`splits`) or the newer one of `transformers`."""
    pairs = list(zip(vocabulary.pieces, vocabulary.scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(pairs, unk_id=vocabulary.kinds.index(2), byte_fallback=falls_back))
    added = [
        (piece, kind == 3) for piece, kind in zip(vocabulary.pieces, vocabulary.kinds, strict=True) if kind in (3, 4)
    ]
    for piece, is_special in added:
        tokenizer.add_tokens([AddedToken(piece, normalized=False, special=is_special)])
    precompiled = normalizers.Precompiled(vocabulary.character_map)
    joining = [normalizers.Strip(left=False), normalizers.Replace(Regex(" {2,}"), "▁")]
    tokenizer.normalizer = precompiled if splits else normalizers.Sequence([precompiled, *joining])
    metaspace = pre_tokenizers.Metaspace()
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if splits else metaspace
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.save(str(path))
    return path


def tiny_json(**changes: object) -> dict[str, Any]:
    """The content of a `tokenizer.json` of the smallest vocabulary, some of it replaced by `changes`."""
    vocab = [list(pair) for pair in zip(TINY.pieces, TINY.scores, strict=True)]
    added = [{"id": id_, "content": TINY.pieces[id_], "special": True} for id_ in range(4)]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    model = {"type": "Unigram", "unk_id": 3, "vocab": vocab}
    return {"added_tokens": added, "normalizer": None, "pre_tokenizer": metaspace, "model": model} | changes


def refusal(path: Path) -> str:
    """Why no tokenizer is read from `path`; the failure must name it."""
    with pytest.raises(EngineError) as caught:
        read_sentencepiece(path)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(path)
    return str(caught.value.details["reason"])
