"""The tokenizer in a text encoder's GGUF file."""

import struct
from pathlib import Path

import pytest
from gguf import GGUFWriter

from engine.errors import EngineError, ErrorCode
from engine.weights.gguf_fields import TEXT
from engine.weights.gguf_file import open_gguf
from engine.weights.gguf_tokenizer import read_tokenizer
from tests.engine.gguf_writing import FLOAT32, INT32, UINT8, UINT32, RawGguf, array, number, text

PIECES = ["<pad>", "</s>", "<unk>", "▁", "日本", "\n", ""]
TOKENS = array("tokenizer.ggml.tokens", TEXT, 2, text("a") + text("b"))
SCORES = array("tokenizer.ggml.scores", FLOAT32, 2, struct.pack("<2f", 0, -1))
KINDS = array("tokenizer.ggml.token_type", INT32, 2, struct.pack("<2i", 1, 3))


def test_what_the_package_writes(tmp_path: Path) -> None:
    file = tmp_path / "umt5.gguf"
    writer = GGUFWriter(file, "t5encoder")
    writer.add_tokenizer_model("t5")
    writer.add_token_list(PIECES)
    writer.add_token_scores([-0.5 * i for i in range(len(PIECES))])
    writer.add_token_types([3, 3, 2, 1, 1, 1, 5])
    writer.add_precompiled_charsmap(b"\x00\x80\xff")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    tokenizer = read_tokenizer(file)
    assert tokenizer.pieces == tuple(PIECES)
    assert tokenizer.scores == (0, -0.5, -1, -1.5, -2, -2.5, -3)
    assert tokenizer.kinds == (3, 3, 2, 1, 1, 1, 5)
    assert tokenizer.character_map == b"\x00\x80\xff"
    assert open_gguf(file).metadata["tokenizer.ggml.model"] == "t5"


def test_a_character_map_may_be_absent_or_of_signed_bytes(tmp_path: Path) -> None:
    file = tmp_path / "umt5.gguf"
    RawGguf(values=(TOKENS, SCORES, KINDS)).write(file)
    assert read_tokenizer(file).character_map == b""
    signed = array("tokenizer.ggml.precompiled_charsmap", 1, 3, b"\x00\x80\xff")
    RawGguf(values=(TOKENS, SCORES, KINDS, signed)).write(file)
    assert read_tokenizer(file).character_map == b"\x00\x80\xff"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((), "it has no tokenizer: tokenizer.ggml.tokens"),
        ((TOKENS, SCORES), "tokenizer.ggml.token_type is missing"),
        ((number("tokenizer.ggml.tokens", UINT32, 1), SCORES, KINDS), "tokenizer.ggml.tokens is missing"),
        ((array("tokenizer.ggml.tokens", UINT8, 2, b"ab"), SCORES, KINDS), "tokenizer.ggml.tokens is missing"),
        ((array("tokenizer.ggml.tokens", TEXT, 1, text("a")), SCORES, KINDS), "1 pieces, 2 scores and 2 kinds"),
        ((array("tokenizer.ggml.tokens", TEXT, 2, text("a") + text(b"\xff")), SCORES, KINDS), "utf-8"),
        ((TOKENS, array("tokenizer.ggml.scores", TEXT, 2, text("0") + text("1")), KINDS), "scores is missing"),
        ((TOKENS, SCORES, KINDS, array("tokenizer.ggml.precompiled_charsmap", FLOAT32, 0, b"")), "of another type"),
    ],
)
def test_what_is_no_tokenizer(tmp_path: Path, values: tuple[bytes, ...], reason: str) -> None:
    file = RawGguf(values=values).write(tmp_path / "umt5.gguf")
    with pytest.raises(EngineError) as caught:
        read_tokenizer(file)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(file)
    assert reason in str(caught.value.details["reason"])
