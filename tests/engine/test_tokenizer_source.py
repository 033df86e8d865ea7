"""The same ids out of every file that a tokenizer comes in, those of other programs, and a reason for every other."""

import dataclasses
import json
import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from sentencepiece import SentencePieceProcessor
from transformers import PreTrainedTokenizerFast

from engine.errors import EngineError
from engine.models.sentencepiece_model import serialized_model
from engine.models.tokenizer import Tokenizer, clean_prompt
from engine.weights.gguf_fields import TEXT
from engine.weights.tokenizer_source import read_sentencepiece
from tests.engine.gguf_writing import FLOAT32, INT32, RawGguf, array, text, words
from tests.engine.sparse_files import write_sparse
from tests.engine.tokenizer_forms import (
    TINY,
    fields,
    refusal,
    tiny_json,
    train_unigram,
    vocabulary_of,
    write_embedded,
    write_gguf,
    write_json,
)

MINI = Path(__file__).parents[2] / "resources/mini/spiece.model"
PROMPTS = (
    "a red ball bouncing on a blue background",
    "A RED Ball, slowly: 12 frames! (4k, 16:9)",
    "一只猫在雪地里奔跑，电影感，4K",
    "红色 的 球",
    "全角　空格 ﬁlm ①②③ ㍿ ＡＢＣ１２３ ｶﾞｷﾞ",
    "emoji ✨🚀 👩‍👩‍👧 🇩🇪 flags",
    "  odd \t\n white\u2003space\u00a0here\u200b \u200b there \u3000 ",
    "cats &amp; dogs &amp;lt;b&amp;gt; &quot;x&quot; &#128512;",
    "naïve café e\u0301 Ñandú — “quoted” … schÃ¶n",
    "ру́сский العربية עברית ไทย 한국어 日本語",
    "\u0378 \U000f0000 \u0001 control",
    "[PAD0] ▁under▁score",
    "",
    "x" * 300,
)
# Where `transformers` differs: it finds the byte's piece, and puts spaces of its own around a user's.
PIECES_AS_TEXT = ("<0x41> <0x0A>", "a <extra> b<extra>")


@pytest.fixture(scope="module")
def model() -> bytes:
    return train_unigram()


@pytest.fixture(scope="module")
def forms(model: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files that one tokenizer comes in."""
    folder, vocabulary = tmp_path_factory.mktemp("forms"), vocabulary_of(model)
    (folder / "spiece.model").write_bytes(model)
    return {
        "spiece": folder / "spiece.model",
        "embedded": write_embedded(model, folder / "umt5.safetensors"),
        "gguf": write_gguf(vocabulary, folder / "umt5.gguf"),
        "json": write_json(vocabulary, folder / "tokenizer.json"),
        "old json": write_json(vocabulary, folder / "old.json", splits=True),
    }


def ids(path: Path, prompt: str) -> list[int]:
    return Tokenizer(read_sentencepiece(path)).encode(prompt, 512)


def test_all_forms_give_the_same_ids(forms: dict[str, Path]) -> None:
    tokenizers = {form: Tokenizer(read_sentencepiece(path)) for form, path in forms.items()}
    seen = {id_ for prompt in PROMPTS for id_ in tokenizers["spiece"].encode(prompt, 512)}
    assert len(seen) > 100, "the prompts need words, letters and bytes"
    for prompt in PROMPTS + PIECES_AS_TEXT:
        assert len({tuple(tokenizer.encode(prompt, 512)) for tokenizer in tokenizers.values()}) == 1, prompt


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text("ab ▁<>/s0x41F\u3000\u200bé\u0301ﬁ球✨") | st.lists(st.sampled_from(PROMPTS)).map(" ".join))
def test_all_forms_give_the_same_ids_for_any_prompt(loaded: list[Tokenizer], prompt: str) -> None:
    assert len({tuple(tokenizer.encode(prompt, 512)) for tokenizer in loaded}) == 1


@pytest.fixture(scope="module")
def loaded(forms: dict[str, Path]) -> list[Tokenizer]:
    return [Tokenizer(read_sentencepiece(path)) for path in forms.values()]


def test_the_vocabulary_is_written_as_the_library_writes_it(model: bytes) -> None:
    """Read back by another program: this test's own reader, and the library's."""
    vocabulary = vocabulary_of(model)
    assert set(vocabulary.kinds) == {1, 2, 3, 4, 6}
    written = serialized_model(vocabulary)
    assert vocabulary_of(written) == vocabulary
    ours, theirs = SentencePieceProcessor(model_proto=written), SentencePieceProcessor(model_proto=model)
    assert (ours.pad_id(), ours.eos_id(), ours.bos_id(), ours.unk_id()) == (0, 1, 2, 3)
    for about in ("id_to_piece", "get_score", "is_control", "is_unknown", "is_unused", "is_byte"):
        every = range(len(vocabulary.pieces))
        assert [getattr(ours, about)(id_) for id_ in every] == [getattr(theirs, about)(id_) for id_ in every]


@pytest.mark.parametrize("form", ["json", "old json"])
def test_ids_are_those_of_transformers(forms: dict[str, Path], form: str) -> None:
    peer = PreTrainedTokenizerFast(tokenizer_file=str(forms[form]), eos_token="</s>", unk_token="<unk>")
    for prompt in PROMPTS:
        assert ids(forms[form], prompt) == peer(clean_prompt(prompt)).input_ids[:512], prompt


def test_a_json_that_knows_no_bytes_gives_the_unknown_piece(tmp_path: Path, model: bytes) -> None:
    """As converters wrote it for years, and as `transformers` then takes it."""
    path = write_json(vocabulary_of(model), tmp_path / "tokenizer.json", falls_back=False)
    peer = PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token="</s>", unk_token="<unk>")
    for prompt in (*PROMPTS, PIECES_AS_TEXT[0]):
        assert ids(path, prompt) == peer(clean_prompt(prompt)).input_ids[:512], prompt
    assert 3 in ids(path, "✨")


def test_the_embedded_model_in_both_forms_that_hold_any_kind(tmp_path: Path) -> None:
    """Byte pairs, not a unigram model: its bytes are passed on as they are."""
    content = MINI.read_bytes()
    assert read_sentencepiece(MINI) == content
    assert read_sentencepiece(write_embedded(content, tmp_path / "umt5.safetensors")) == content


def test_padded_rows_are_ids_that_no_prompt_has(forms: dict[str, Path], model: bytes) -> None:
    pieces = len(vocabulary_of(model).pieces)
    tokenizer = Tokenizer(read_sentencepiece(forms["gguf"]))
    assert tokenizer.size == pieces + 3
    assert max(tokenizer.encode("[PAD0] [PAD1]", 512)) < pieces


@pytest.mark.parametrize("adds_space", [True, False])
@pytest.mark.parametrize("removes_spaces", [True, False])
def test_what_a_file_says_of_spaces(tmp_path: Path, adds_space: bool, removes_spaces: bool) -> None:
    vocabulary = dataclasses.replace(TINY, adds_space=adds_space, removes_spaces=removes_spaces)
    loaded = read_sentencepiece(write_gguf(vocabulary, tmp_path / "a.gguf", padding=0))
    pieces = SentencePieceProcessor(model_proto=loaded).encode(" a  b", out_type=str)
    assert pieces == ["▁"] * adds_space + ["▁"] * (not removes_spaces) + ["a", "▁"] + ["▁"] * (not removes_spaces) + [
        "b"
    ]
    normalizer = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "} if removes_spaces else None
    metaspace = {"type": "Metaspace", "replacement": "▁"}
    newer = tiny_json(
        normalizer=normalizer, pre_tokenizer=metaspace | {"prepend_scheme": "always" if adds_space else "never"}
    )
    older = tiny_json(normalizer=normalizer, pre_tokenizer=metaspace | {"add_prefix_space": adds_space})
    for content in (newer, older):
        (file := tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
        assert read_sentencepiece(file) == loaded


def test_what_a_folder_holds(tmp_path: Path, forms: dict[str, Path]) -> None:
    assert "no tokenizer in it" in refusal(tmp_path)
    save_file({"a": torch.ones(1)}, tmp_path / "transformer.safetensors")
    assert "no tokenizer in it" in refusal(tmp_path)
    for form, name in {"gguf": "umt5.gguf", "embedded": "umt5.safetensors", "json": "tokenizer.json"}.items():
        (tmp_path / name).write_bytes(forms[form].read_bytes())
        assert read_sentencepiece(tmp_path) == read_sentencepiece(forms[form])
    for name in ("sentencepiece.bpe.model", "spiece.model"):
        (tmp_path / name).write_bytes(name.encode())
        assert read_sentencepiece(tmp_path) == name.encode()


def test_two_of_one_kind_in_a_folder(tmp_path: Path) -> None:
    for name in ("a.model", "b.model"):
        (tmp_path / name).write_bytes(b"any")
    with pytest.raises(EngineError, match=r"like a\.model"):
        read_sentencepiece(tmp_path)


def test_in_any_part_of_a_split_text_encoder(tmp_path: Path, model: bytes) -> None:
    first, second = (tmp_path / f"umt5-0000{i}-of-00002.safetensors" for i in (1, 2))
    save_file({"a": torch.ones(1)}, first)
    assert "umt5-00002" in refusal(first)
    write_embedded(model, second)
    assert read_sentencepiece(first) == read_sentencepiece(second) == read_sentencepiece(tmp_path) == model
    index = tmp_path / "umt5.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": first.name, "spiece_model": second.name}}), "utf-8")
    assert read_sentencepiece(index) == model


def test_checkpoints_without_a_tokenizer(tmp_path: Path) -> None:
    save_file({"shared.weight": torch.ones(1)}, path := tmp_path / "a.safetensors")
    assert refusal(path) == "it has no tokenizer: no tensor spiece_model"
    torch.save({"token_embedding.weight": torch.ones(1)}, path := tmp_path / "a.pth")
    assert refusal(path) == "it has no tokenizer"
    assert "it has no tokenizer" in refusal(RawGguf().write(tmp_path / "a.gguf"))
    llama = RawGguf(values=(words("tokenizer.ggml.model", "llama"),)).write(tmp_path / "b.gguf")
    assert refusal(llama) == "a tokenizer of the type llama; only t5 can be read"


@pytest.mark.parametrize(("dtype", "size"), [("F32", 4), ("U8", 0), ("U8", 10**9)])
def test_tensors_that_are_no_tokenizer(tmp_path: Path, dtype: str, size: int) -> None:
    write_sparse(path := tmp_path / "a.safetensors", {"spiece_model": (dtype, (size,))})
    assert refusal(path).endswith(f"bytes of {dtype}")


def test_what_is_missing_empty_or_endless(tmp_path: Path) -> None:
    assert refusal(tmp_path / "spiece.model")
    (path := tmp_path / "empty.model").touch()
    assert refusal(path) == "empty"
    with (path := tmp_path / "endless.model").open("wb") as file:
        file.write(b"\n\x0e\n\x05<pad>")
        file.truncate(20 << 30)
    assert "more than 100000000 bytes" in refusal(path)


def loads(path: Path) -> bool:
    """Whether the tokenizer of `path` works; anything but MODEL_INVALID and what `load_tokenizer` expects leaves."""
    try:
        Tokenizer(read_sentencepiece(path)).encode(PROMPTS[4], 512)
    except (EngineError, RuntimeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("form", ["spiece", "embedded", "gguf", "json"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_spoiled_bytes_are_refused_or_give_ids(forms: dict[str, Path], form: str, data: st.DataObject) -> None:
    content = bytearray(forms[form].read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        content[int(data.draw(st.floats(0, 1, exclude_max=True)) * len(content))] = data.draw(st.integers(0, 255))
    del content[int(data.draw(st.just(1.0) | st.floats(0, 1)) * len(content)) :]
    (path := forms[form].with_name(f"spoiled.{form}")).write_bytes(content)
    loads(path)


@pytest.mark.parametrize("form", ["spiece", "embedded", "gguf", "json"])
@pytest.mark.parametrize("kept", [4, 100, 0.5, 0.99])
def test_files_that_are_cut_short(forms: dict[str, Path], form: str, kept: float) -> None:
    content = forms[form].read_bytes()
    (path := forms[form].with_name(f"cut.{form}")).write_bytes(
        content[: int(kept if kept > 1 else kept * len(content))]
    )
    assert not loads(path)


def test_a_gguf_file_that_claims_a_thousand_million_pieces(tmp_path: Path) -> None:
    tokens = array("tokenizer.ggml.tokens", TEXT, 10**9, text("a"))
    assert refusal(RawGguf(values=(tokens,)).write(tmp_path / "a.gguf"))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 3e38])
def test_scores_that_are_no_numbers(tmp_path: Path, score: float) -> None:
    values = (
        array("tokenizer.ggml.tokens", TEXT, 2, text("a") + text("b")),
        array("tokenizer.ggml.scores", FLOAT32, 2, struct.pack("<2f", 0, score)),
        array("tokenizer.ggml.token_type", INT32, 2, struct.pack("<2i", 1, 3)),
    )
    assert refusal(RawGguf(values=values).write(tmp_path / "a.gguf")).startswith("the score of 'b' is ")


def test_kinds_that_are_none(tmp_path: Path) -> None:
    vocabulary = dataclasses.replace(TINY, kinds=(3, 3, 3, 2, 1, 1, 7))
    assert "7 is not a valid Kind" in refusal(write_gguf(vocabulary, tmp_path / "a.gguf"))


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ((3, 1, 3, 2, 1, 1, 1), "no </s>"),
        ((3, 3, 3, 1, 1, 1, 1), "unk is not defined"),
        ((3, 3, 3, 2, 1, 1, 2), "unk is already defined"),
        ((3, 3, 3, 2, 1, 1, 6), "byte"),
    ],
)
def test_vocabularies_that_lack_what_they_need(kinds: tuple[int, ...], reason: str) -> None:
    with pytest.raises((RuntimeError, ValueError), match=reason):
        Tokenizer(serialized_model(dataclasses.replace(TINY, kinds=kinds)))


def test_no_bytes_are_no_model() -> None:
    with pytest.raises(RuntimeError):
        Tokenizer(b"")


def test_the_fields_of_the_published_description() -> None:
    """Their numbers, read from what was written by a reader that knows nothing of them."""
    *pieces, (trainer, trainer_fields), (normalizer, normalizer_fields) = fields(serialized_model(TINY))
    assert [number for number, _ in pieces] == [1] * 7
    assert isinstance(trainer_fields, bytes)
    assert isinstance(normalizer_fields, bytes)
    assert (trainer, list(fields(trainer_fields))) == (2, [(3, 1), (35, 0)])
    assert (normalizer, list(fields(normalizer_fields))) == (3, [(2, b""), (3, 1), (4, 1)])
