"""A `tokenizer.json` is read whole or refused: what it would do to a text is never passed over."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.models.tokenizer import Tokenizer
from engine.weights.tokenizer_source import read_sentencepiece
from tests.engine.tokenizer_forms import refusal, tiny_json


def test_marks_are_never_found_in_a_prompt(tmp_path: Path) -> None:
    """Not even where the file does not list them; tokens that were added for prompts are."""
    added = [{"id": 7, "content": "<x>", "special": False}, {"id": 8, "content": "<y>", "special": True}]
    (file := tmp_path / "tokenizer.json").write_text(json.dumps(tiny_json(added_tokens=added)), "utf-8")
    tokenizer = Tokenizer(read_sentencepiece(file))
    assert tokenizer.size == 9
    assert tokenizer.encode("a</s><s>b<pad>", 64) == [4, 5, 3, 6, 3, 5, 3, 1]
    assert tokenizer.encode("a<x>b<y>", 64) == [4, 5, 7, 6, 3, 1]


Edit = Callable[[dict[str, Any]], object]
PRECOMPILED = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
EDITS: list[tuple[Edit, str]] = [
    (lambda c: c.pop("model"), "its model is None"),
    (lambda c: c["model"].update(type="BPE"), "the type 'BPE'; only Unigram"),
    (lambda c: c["model"].update(type=["Unigram"]), "the type ['Unigram']"),
    (lambda c: c["model"].update(vocab={"a": 1}), "its vocab is {'a': 1}"),
    (lambda c: c["model"]["vocab"].append(["c"]), "entry 7 of its vocabulary is ['c']"),
    (lambda c: c["model"]["vocab"].append([3, -1.0]), "entry 7 of its vocabulary is [3, -1.0]"),
    (lambda c: c["model"]["vocab"].append(["c", True]), "entry 7 of its vocabulary is ['c', True]"),
    (lambda c: c["model"]["vocab"].append(["c", math.nan]), "the score of 'c' is nan"),
    (lambda c: c["model"]["vocab"].append(["c", 10**400]), "the score of 'c' is 1000"),
    (lambda c: c["model"]["vocab"].append(["\ud800", -1.0]), "surrogates not allowed"),
    (lambda c: c.update(added_tokens=None), "its added_tokens is None"),
    (lambda c: c["added_tokens"].append({"id": 7}), "added tokens is {'id': 7}"),
    (lambda c: c["added_tokens"].append({"id": 10**9, "content": "x", "special": True}), "no place 1000000000 for 'x'"),
    (lambda c: c["added_tokens"].append({"id": -1, "content": "b", "special": True}), "no place -1 for 'b'"),
    (lambda c: c["added_tokens"].append({"id": 5, "content": "b", "special": True}), "no place 5 for 'b'"),
    (lambda c: c.update(normalizer={"type": "Lowercase"}), "changes text"),
    (lambda c: c.update(normalizer="Lowercase"), "changes text"),
    (lambda c: c.update(normalizer={"type": "Sequence", "normalizers": [PRECOMPILED, PRECOMPILED]}), "changes text"),
    (lambda c: c.update(normalizer=PRECOMPILED | {"precompiled_charsmap": "AA\nA="}), "base64"),
    (lambda c: c.update(normalizer=PRECOMPILED | {"precompiled_charsmap": "é"}), "ASCII"),
    (lambda c: c.update(normalizer={"type": "Sequence"}), "its normalizers is None"),
    (lambda c: c.update(pre_tokenizer=None), "splits text"),
    (lambda c: c.update(pre_tokenizer={"type": "ByteLevel"}), "splits text"),
    (lambda c: c.update(pre_tokenizer={"type": "Metaspace", "replacement": "_"}), "splits text"),
]


@pytest.mark.parametrize(("edit", "reason"), EDITS, ids=[reason for _, reason in EDITS])
def test_json_of_other_tokenizers(tmp_path: Path, edit: Edit, reason: str) -> None:
    edit(content := tiny_json())
    (path := tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    assert reason in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"model": 1}',
        '{"model": {}, "model": {}}',
        '{"a": ' * 100_000,
        '{"model": {"vocab": ' + "[" * 900 + "]" * 900 + "}}",
    ],
)
def test_json_of_other_things(tmp_path: Path, content: str) -> None:
    (path := tmp_path / "tokenizer.json").write_text(content)
    assert refusal(path)


def test_a_character_map_that_is_none(tmp_path: Path) -> None:
    (path := tmp_path / "tokenizer.json").write_text(json.dumps(tiny_json(normalizer=PRECOMPILED)), "utf-8")
    with pytest.raises(RuntimeError):
        Tokenizer(read_sentencepiece(path))
