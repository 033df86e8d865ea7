"""Prompts to ids: the official cleaning, the end mark, and the limit."""

import html
import re

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from engine.models.tokenizer import Tokenizer, clean_prompt
from tests.engine.tiny_model import build_tiny_model

END_OF_SENTENCE = 1


@pytest.fixture(scope="module")
def spiece(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (build_tiny_model(tmp_path_factory.mktemp("tiny") / "model") / "spiece.model").read_bytes()


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  a red\tball\n\n bouncing ", "a red ball bouncing"),
        ("cats &amp;amp; dogs", "cats & dogs"),
        ("&amp;lt;b&amp;gt;", "<b>"),
        ("schÃ¶n", "schön"),
        ("“quoted” ﬁlm", '"quoted" film'),
        ("全角\u3000空格", "全角 空格"),
        ("a&nbsp;b", "a b"),
        (" \n", ""),
    ],
)
def test_cleaning(raw: str, clean: str) -> None:
    assert clean_prompt(raw) == clean


@settings(deadline=None)  # the first call of ftfy builds its tables
@given(st.text() | st.text("ab &;#<>amplt1235\u00a0\u2003\x1c\x85\n"))
def test_cleaning_is_the_official_formula(text: str) -> None:
    basic = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    assert clean_prompt(text) == re.sub(r"\s+", " ", basic).strip()


@pytest.mark.parametrize("prompt", ["a red ball", "  a   red\nball ", "红色 球", "zebra &amp; quokka ✨"])
def test_ids_are_the_pieces_and_the_end_mark(spiece: bytes, prompt: str) -> None:
    pieces = SentencePieceProcessor(model_proto=spiece).encode(clean_prompt(prompt))
    assert Tokenizer(spiece).encode(prompt, 512) == [*pieces, END_OF_SENTENCE]


def test_a_long_prompt_keeps_its_beginning_and_its_end_mark(spiece: bytes) -> None:
    tokenizer = Tokenizer(spiece)
    whole = tokenizer.encode("a red ball " * 50, 10_000)
    cut = tokenizer.encode("a red ball " * 50, 16)
    assert len(whole) > 16
    assert cut == [*whole[:15], END_OF_SENTENCE]
    assert tokenizer.encode("a red ball " * 50, len(whole)) == whole


def test_an_empty_prompt_is_the_end_mark_alone(spiece: bytes) -> None:
    assert Tokenizer(spiece).encode(" ", 16) == [END_OF_SENTENCE]


def test_marks_written_in_a_prompt_are_plain_text(spiece: bytes) -> None:
    assert END_OF_SENTENCE not in Tokenizer(spiece).encode("a </s> ball", 64)[:-1]
