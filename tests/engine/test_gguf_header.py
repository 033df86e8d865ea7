"""Headers of GGUF files: what is read, and that whatever a hostile file claims ends in a reason."""

import contextlib
import os
import re
import struct
import tempfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, ErrorCode
from engine.weights.gguf_fields import ARRAY, TEXT
from engine.weights.gguf_file import open_gguf
from engine.weights.gguf_header import MAX_ENTRIES, GgufHeader, read_gguf_header
from engine.weights.gguf_tokenizer import read_tokenizer
from engine.weights.header import TensorInfo
from tests.engine.gguf_writing import (
    BF16,
    BOOL,
    F16,
    F32,
    FLOAT32,
    INT32,
    Q8_0,
    UINT8,
    UINT32,
    RawGguf,
    array,
    number,
    tensor,
    text,
    words,
)  # fmt: skip

WHOLE = RawGguf(
    values=(
        words("general.architecture", "wan"),
        number("general.quantization_version", UINT32, 2),
        number("scale", FLOAT32, 0.5),
        number("flag", BOOL, 1),
        array("tokenizer.ggml.tokens", TEXT, 3, text("a") + text("") + text("日本")),
        array("comfy.gguf.orig_shape.patch.weight", INT32, 5, struct.pack("<5i", 2, 2, 1, 2, 2)),
    ),
    tensors=(
        tensor("patch.weight", (4, 4), BF16),
        tensor("blocks.0.weight", (64, 2), Q8_0, 32),
        tensor("bias", (3,), F16, 192),
        tensor("strange", (96, 2), 77, 224),
    ),
    data=bytes(300),
)


def header_of(raw: RawGguf | bytes, folder: Path) -> GgufHeader:
    file = folder / "model.gguf"
    file.write_bytes(raw if isinstance(raw, bytes) else raw.header() + raw.data)
    return read_gguf_header(file)


def refused(raw: RawGguf | bytes, folder: Path) -> str:
    """The reason why the file is not taken."""
    with pytest.raises(EngineError) as caught:
        header_of(raw, folder)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(folder / "model.gguf")
    reason = str(caught.value.details["reason"])
    assert len(reason) < 400
    assert reason.isprintable()
    return reason


@pytest.mark.parametrize("version", [2, 3])
def test_what_a_file_says_of_itself(tmp_path: Path, version: int) -> None:
    header = header_of(replace(WHOLE, version=version), tmp_path)
    assert header.metadata == {
        "general.architecture": "wan",
        "general.quantization_version": "2",
        "scale": "0.5",
        "flag": "true",
    }
    assert list(header.infos.items()) == [
        ("patch.weight", TensorInfo("BF16", (2, 2, 1, 2, 2), 32)),
        ("blocks.0.weight", TensorInfo("Q8_0", (2, 64), 136)),
        ("bias", TensorInfo("F16", (3,), 6)),
        ("strange", TensorInfo("TYPE_77", (2, 96), 76)),  # what is left of the file
    ]
    start = len(WHOLE.header())
    assert [t.start - start for t in header.tensors.values()] == [0, 32, 192, 224]
    assert header.tensors["patch.weight"].stored_shape == (4, 4)


def test_tensors_may_be_stored_in_another_order_than_listed(tmp_path: Path) -> None:
    raw = RawGguf(tensors=(tensor("late", (4,), F32, 32), tensor("early", (2, 2), F32)), data=bytes(48))
    assert list(header_of(raw, tmp_path).tensors) == ["late", "early"]


def test_another_alignment(tmp_path: Path) -> None:
    raw = RawGguf(
        values=(number("general.alignment", UINT32, 128),),
        tensors=(tensor("a", (4,)), tensor("b", (4,), F32, 128)),
        data=bytes(144),
        alignment=128,
    )
    assert [t.start % 128 for t in header_of(raw, tmp_path).tensors.values()] == [0, 0]


def test_a_file_of_a_vocabulary_alone_has_no_tensors(tmp_path: Path) -> None:
    assert not header_of(RawGguf(values=(words("general.architecture", "t5"),)).header().rstrip(b"\0"), tmp_path).infos


def test_a_scalar_has_no_dimensions(tmp_path: Path) -> None:
    raw = RawGguf(tensors=(tensor("scale", ()),), data=bytes(4))
    assert header_of(raw, tmp_path).infos == {"scale": TensorInfo("F32", (), 4)}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GGU", "not a GGUF file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a GGUF file"),
        (replace(WHOLE, magic=b"GGML"), "not a GGUF file"),
        (b"GGUF", "does not end within 4 bytes"),
        (replace(WHOLE, version=1), "of version 1; versions 2 and 3"),
        (replace(WHOLE, version=4), "of version 4"),
        (replace(WHOLE, version=0), "of version 0"),
        (replace(WHOLE, version=3 << 24), "big-endian"),
        (replace(WHOLE, tensor_count=5), "overlaps"),
        (replace(WHOLE, tensor_count=100), "two tensors|damaged"),
        (replace(WHOLE, value_count=7), "damaged"),
        (replace(WHOLE, tensor_count=MAX_ENTRIES + 1), f"claims {MAX_ENTRIES + 1} tensors"),
        (replace(WHOLE, tensor_count=2**64 - 1), "claims 18446744073709551615 tensors"),
        (replace(WHOLE, value_count=2**64 - 1), "18446744073709551615 values"),
        (WHOLE.header()[:70], "does not end within 70 bytes"),
        (WHOLE.header()[:-60], "does not end within"),
        (WHOLE.header() + bytes(223), r"cut short: \d+ of \d+ bytes"),
    ],
)
def test_no_such_file_or_cut_short(tmp_path: Path, content: RawGguf | bytes, reason: str) -> None:
    said = refused(content, tmp_path)
    assert re.search(reason, said), said


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (struct.pack("<Q", 2**64 - 1) + b"key", "damaged"),
        (struct.pack("<Q", 2**40) + b"key", "damaged"),
        (text("key") + struct.pack("<IQ", TEXT, 2**63), "damaged"),
        (array("key", TEXT, 2**63, b""), "damaged"),
        (array("key", TEXT, 2, text("a") + struct.pack("<Q", 2**64 - 1)), "damaged"),
        (array("key", UINT8, 2**63, b""), "damaged"),
        (array("key", INT32, 2**62, b""), "damaged"),
        (array("key", ARRAY, 1, struct.pack("<IQ", UINT8, 0)), "array of arrays"),
        (array("key", 13, 1, b""), "unknown type 13"),
        (text("key") + struct.pack("<I", 4_000_000_000), "unknown type 4000000000"),
        (words(b"\xff\xfe", "value"), "utf-8"),
        (words("key", b"\xed\xa0\x80"), "utf-8"),
        (words("key", "1") + words("key", "2"), "two values of key"),
        (number("general.alignment", UINT32, 0), "aligned to 0"),
        (number("general.alignment", UINT32, 4), "aligned to 4"),
        (number("general.alignment", UINT32, 48), "aligned to 48"),
        (number("general.alignment", BOOL, 1), "aligned to True"),
        (words("general.alignment", "32\n"), "aligned to '32"),
        (number("general.alignment", UINT32, 1 << 31), "cut short|not aligned"),
        (number("comfy.gguf.orig_shape.patch.weight", INT32, 16), "no list"),
        (words("comfy.gguf.orig_shape.patch.weight", "16"), "no list"),
        (array("comfy.gguf.orig_shape.patch.weight", FLOAT32, 1, struct.pack("<f", 16)), "no list"),
        (array("comfy.gguf.orig_shape.patch.weight", UINT8, 9, bytes([1] * 8 + [16])), "no list"),
        (array("comfy.gguf.orig_shape.patch.weight", UINT8, 0, b""), "which is no"),
        (array("comfy.gguf.orig_shape.patch.weight", INT32, 2, struct.pack("<2i", 4, 5)), "which is no"),
        (array("comfy.gguf.orig_shape.patch.weight", INT32, 2, struct.pack("<2i", -4, -4)), "which is no"),
    ],
)
def test_hostile_metadata(tmp_path: Path, value: bytes, reason: str) -> None:
    count = 2 if value == words("key", "1") + words("key", "2") else 1
    said = refused(replace(WHOLE, values=(value,), value_count=count), tmp_path)
    assert re.search(reason, said), said


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ((tensor("a", (1, 1, 1, 1, 1, 1)),), "a has 6 dimensions"),
        ((text("a") + struct.pack("<I", 2**32 - 1),), "a has 4294967295 dimensions"),
        ((tensor("a", (4, 0)),), "the shape [0, 4]"),
        ((tensor("a", (2**32, 2**32)),), "the shape"),
        ((tensor("a", (2**63, 2**63, 2**63, 2**63)),), "the shape"),
        ((tensor("a", (2**60,)),), "cut short"),
        ((tensor("a", (2**62, 1), 77), tensor("b", (1,), F32, 32)), None),
        ((tensor("a", (33, 2), Q8_0),), "which Q8_0 cannot store"),
        ((tensor("a", (), Q8_0),), "which Q8_0 cannot store"),
        ((tensor("a", (4,), F32, 2**64 - 32),), "cut short"),
        ((tensor("a", (4,), F32, 320),), "cut short"),
        ((tensor("a", (4,), F32, 16),), "not aligned"),
        ((tensor("a", (4,)), tensor("b", (4,))), "overlaps"),
        ((tensor("a", (9,)), tensor("b", (4,), F32, 32)), "a overlaps"),
        ((tensor("a", (4,), F32, 32), tensor("b", (9,))), "b overlaps"),
        ((tensor("a", (4,), 77), tensor("b", (4,), 77)), "overlaps"),
        ((tensor("a", (4,), 77, 320),), "overlaps|cut short"),
        ((tensor("a", (4,)), tensor("a", (4,), F32, 32)), "two tensors a"),
        ((tensor(b"\x80", (4,)),), "utf-8"),
        ((tensor("a" * 1000 + "\n", (4, 0)),), "a" * 100 + "..."),
        ((tensor("\u202e\x1b[2J", (4, 0)),), r"'\\u202e\\x1b[2J'"),
    ],
)
def test_hostile_tensors(tmp_path: Path, entries: tuple[bytes, ...], reason: str | None) -> None:
    raw = RawGguf(tensors=entries, data=bytes(320))
    if reason is None:
        header_of(raw, tmp_path)
        return
    said = refused(raw, tmp_path)
    assert any(part.replace("\\\\", "\\") in said for part in reason.split("|")), said


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.gguf"
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    for file in (pipe, tmp_path, tmp_path / "gone.gguf"):
        with pytest.raises(EngineError) as caught:
            read_gguf_header(file)
        assert caught.value.code is ErrorCode.MODEL_INVALID


def test_a_vocabulary_is_passed_over_quickly(tmp_path: Path) -> None:
    count = 256_384
    pieces = b"".join(text(f"▁piece{i}") for i in range(count))
    scores = bytes(4 * count)
    raw = RawGguf(values=(array("tokens", TEXT, count, pieces), array("scores", FLOAT32, count, scores)))
    file = raw.write(tmp_path / "umt5.gguf")
    began = time.process_time()
    header = read_gguf_header(file)
    assert time.process_time() - began < 0.5
    assert [field.count for field in header.arrays.values()] == [count, count]


def read_or_refuse(content: bytes) -> None:
    """Tensors or EngineError, in memory bounded by the file and not by what it claims."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fuzzed.gguf"
        file.write_bytes(content)
        tracemalloc.start()
        try:
            with contextlib.suppress(EngineError):
                read_tokenizer(file)
            with contextlib.suppress(EngineError):
                checkpoint = open_gguf(file)
                for name in checkpoint.header:
                    with contextlib.suppress(EngineError):
                        checkpoint.read(name)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300), starts_well=st.booleans())
def test_arbitrary_bytes(content: bytes, starts_well: bool) -> None:
    read_or_refuse(b"GGUF\x03\0\0\0" + content if starts_well else content)


MUTATION = st.tuples(st.integers(0, len(WHOLE.header()) - 1), st.binary(min_size=1, max_size=9), st.booleans())


@settings(max_examples=400, deadline=None)
@given(mutations=st.lists(MUTATION, min_size=1, max_size=4), length=st.none() | st.integers(0, len(WHOLE.header())))
def test_mutated_headers(mutations: list[tuple[int, bytes, bool]], length: int | None) -> None:
    content = WHOLE.header() + WHOLE.data
    for start, changed, is_inserted in mutations:
        content = content[:start] + changed + content[start if is_inserted else start + len(changed) :]
    read_or_refuse(content[:length])
