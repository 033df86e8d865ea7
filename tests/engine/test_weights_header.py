"""Headers of safetensors files: true ones are read as the format's own library reads them, all others refused."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from engine.errors import EngineError, ErrorCode
from engine.weights.header import TensorInfo, read_contents, read_header
from tests.engine.sparse_files import BITS, write_sparse

WEIGHT = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
NEXT = {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}
NAME = "blocks.0.attn.q.weight"


def write(path: Path, header: bytes | dict[str, Any], values: int = 32) -> Path:
    """A file with this header and so many bytes after it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(values))
    return path


def refused(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        read_header(path)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(path)
    return str(caught.value.details["reason"])


def test_a_true_header(tmp_path: Path) -> None:
    """Tensors in another order than their bytes, an empty one among them, and metadata."""
    empty = {"dtype": "F32", "shape": [0, 5], "data_offsets": [24, 24]}
    header = {"__metadata__": {"format": "pt"}, "b": NEXT, "none": empty, "a": WEIGHT}
    contents = read_contents(write(tmp_path / "a", header))
    assert contents.header == {
        "a": TensorInfo("F32", (2, 3), 24),
        "b": TensorInfo("BF16", (4,), 8),
        "none": TensorInfo("F32", (0, 5), 0),
    }
    assert contents.metadata == {"format": "pt"}
    after = 8 + len(json.dumps(header))
    assert contents.starts == {"a": after, "b": after + 24, "none": after + 24}


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_of_the_format(tmp_path: Path, dtype: str) -> None:
    write_sparse(path := tmp_path / "a", {"x": (dtype, (3, 4, 2)), "y": ("U8", (1,))})
    assert read_header(path)["x"] == TensorInfo(dtype, (3, 4, 2), 24 * BITS[dtype] // 8)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (1, "described as 1"), ([], "described as []"), (None, "described as None"), ({}, "dtype None"),
        (WEIGHT | {"dtype": "F33"}, "dtype 'F33' is unknown"), (WEIGHT | {"dtype": 32}, "dtype 32 is unknown"),
        (WEIGHT | {"dtype": ["F32"]}, "is unknown"), (WEIGHT | {"dtype": "f32"}, "is unknown"),
        (WEIGHT | {"shape": [-2, -3]}, "shape is [-2, -3]"), (WEIGHT | {"shape": [2.0, 3]}, "shape is [2.0, 3]"),
        (WEIGHT | {"shape": [True, 6]}, "shape is [True, 6]"), (WEIGHT | {"shape": "23"}, "shape is '23'"),
        (WEIGHT | {"shape": ["2", 3]}, "shape is ['2', 3]"), (WEIGHT | {"shape": None}, "shape is None"),
        (WEIGHT | {"shape": [2**63]}, "shape is"), (WEIGHT | {"shape": [2**40, 2**40]}, "too large"),
        (WEIGHT | {"shape": [2**62, 2, 0]}, "too large"), (WEIGHT | {"shape": [1e400]}, "shape is [inf]"),
        (WEIGHT | {"shape": [2, 4]}, "F32 [2, 4] takes 32 bytes, not 24"),
        (WEIGHT | {"shape": []}, "takes 4 bytes, not 24"), (WEIGHT | {"dtype": "BF16"}, "takes 12 bytes, not 24"),
        (WEIGHT | {"dtype": "F4", "shape": [3]}, "ends within a byte"),
        (WEIGHT | {"data_offsets": [24, 0]}, "place is [24, 0]"), (WEIGHT | {"data_offsets": [-24, 0]}, "place is"),
        (WEIGHT | {"data_offsets": [0]}, "place is [0]"), (WEIGHT | {"data_offsets": [0, 12, 24]}, "place is"),
        (WEIGHT | {"data_offsets": [False, 24]}, "place is"), (WEIGHT | {"data_offsets": {"0": 24}}, "place is"),
        (WEIGHT | {"data_offsets": [0, "24"]}, "place is"), (WEIGHT | {"data_offsets": [8, 32]}, "8 bytes of nothing"),
        (WEIGHT | {"data_offsets": [2**62, 2**62 + 24]}, "bytes of nothing before it"),
    ],
)  # fmt: skip
def test_a_tensor_that_cannot_be_is_named(tmp_path: Path, entry: object, words: str) -> None:
    reason = refused(write(tmp_path / "a", {NAME: entry}, 24))
    assert reason.startswith(f"{NAME}: ")
    assert words in reason


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[1]", "does not begin"), (b" {}", "does not begin"), (b"null", "does not begin"),
        (b"{]", "not a safetensors file"), (b"{", "not a safetensors file"), (b"{}{}", "not a safetensors file"),
        (b"\xef\xbb\xbf{}", "does not begin"), (b'{"\xff": 1}', "codec"), ('{"a": 1}'.encode("utf-16"), "not begin"),
        (b'{"a": {"shape": {"b": 1, "b": 2}}}', "twice: b"), (b'{"a": {}, "a": {}}', "twice: a"),
        (b'{"\\ud800": {}}', "surrogates not allowed"), (b'{"__metadata__": {"a": "\\udc00"}}', "surrogates"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a safetensors file"),
        (b'{"__metadata__": []}', "__metadata__ is []"), (b'{"__metadata__": null}', "__metadata__ is None"),
        (b'{"__metadata__": {"step": 3}}', "step is not a text"),
        (json.dumps({"a": WEIGHT, "b": NEXT | {"data_offsets": [16, 24]}}).encode(), "b: overlaps a"),
        (json.dumps({"a": WEIGHT, "b": NEXT | {"data_offsets": [26, 34]}}).encode(), "b: 2 bytes of nothing before it"),
        (json.dumps({"a": WEIGHT, "b": WEIGHT}).encode(), "overlaps"),
        (json.dumps({"a": WEIGHT}).encode(), "8 bytes too many"),
        (json.dumps({"a": WEIGHT, "b": NEXT, "c": NEXT | {"data_offsets": [32, 40]}}).encode(), "cut short"),
        (json.dumps({"n" * 10_000: 1}).encode(), "nnn...: described as 1"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be(tmp_path: Path, header: bytes, words: str) -> None:
    reason = refused(write(tmp_path / "a", header))
    assert words in reason
    assert len(reason) < 400


@pytest.mark.parametrize("dimensions", [1000, 1_000_000])
def test_a_product_longer_than_the_header_is_not_worked_out(tmp_path: Path, dimensions: int) -> None:
    shape = [2**62] * dimensions
    assert "too large" in refused(write(tmp_path / "a", {"a": WEIGHT | {"shape": shape}}))


@pytest.mark.parametrize("length", [0, 1, 3, 31, 33, 100_000_001, 2**63, 2**64 - 1])
def test_a_wrong_length(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "a", {"a": WEIGHT | {"data_offsets": [0, 24]}}, 24)
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    assert "not a safetensors file" in refused(path)


@pytest.mark.parametrize("kept", [1, 7, 8, 9, 40, -1])
def test_a_file_that_is_cut_short(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "a", {"a": WEIGHT}, 24)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert refused(tmp_path) == "a folder, not a file"
    assert refused(tmp_path / "none") == "No such file or directory"
    (tmp_path / "empty").touch()
    assert refused(tmp_path / "empty") == "empty"
    assert "null" in refused(Path("a\0b"))
    assert refused(tmp_path / "empty" / "x")


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes with names there")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert refused(tmp_path / "a") == "not a file"


@pytest.mark.skipif(sys.platform == "win32", reason="rights are others there")
def test_a_file_that_may_not_be_read() -> None:
    with tempfile.NamedTemporaryFile() as file:
        path = write(Path(file.name), {"a": WEIGHT}, 24)
        path.chmod(0)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(65534)
        try:
            assert refused(path) == "Permission denied"
        finally:
            if was_root:
                os.seteuid(0)


TRUE = save(
    {"blocks.0.q": torch.ones(2, 3), "blocks.0.q.bias": torch.ones(2).bfloat16(), "c": torch.tensor(1)},
    {"format": "pt"},
)
SNIPPETS = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"-", b"0", b"9", b"1e9", b"true", b"null", b"F16", b"\\u0000"]


def holds(path: Path) -> None:
    """The header is refused, or is one that the format's own library reads in the same way."""
    try:
        header = read_header(path)
    except EngineError as error:
        assert error.code is ErrorCode.MODEL_INVALID  # noqa: PT017
        assert str(error).encode(), "what is said can be printed"  # noqa: PT017
        return
    with safe_open(path, framework="np") as peer:
        assert set(peer.keys()) == set(header)
        for name, info in header.items():
            assert tuple(peer.get_slice(name).get_shape()) == info.shape
            assert peer.get_slice(name).get_dtype() == info.dtype


def with_bytes(check: Callable[[Path], None], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        path.write_bytes(content)
        check(path)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=80))
@example(bytes(8))
def test_any_bytes(content: bytes) -> None:
    with_bytes(holds, content)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.binary(max_size=8))
def test_any_header(text: bytes, values: bytes) -> None:
    with_bytes(holds, len(text).to_bytes(8, "little") + text + values)


@settings(deadline=None, max_examples=500)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 4), st.sampled_from(SNIPPETS)), max_size=4), st.booleans())
def test_spoiled_headers(edits: list[tuple[float, int, bytes]], is_length_right: bool) -> None:
    length = int.from_bytes(TRUE[:8], "little")
    text = TRUE[8 : 8 + length]
    for place, dropped, inserted in edits:
        at = int(place * len(text))
        text = text[:at] + inserted + text[at + dropped :]
    with_bytes(holds, (len(text) if is_length_right else length).to_bytes(8, "little") + text + TRUE[8 + length :])


ODD: list[object] = [2**31, 2**32, 2**62, 2**63, 2**64, -(2**63), 1.5, True, None, "8", []]
NUMBERS = st.integers(-2, 40) | st.sampled_from(ODD)
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "U8", "F4", "F8_E4M3", "F99", 3]),
        "shape": st.lists(NUMBERS, max_size=4),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)


@settings(deadline=None, max_examples=500)
@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__", ""]), ENTRIES, max_size=3), st.integers(0, 64))
def test_claims_of_every_kind(entries: dict[str, Any], values: int) -> None:
    text = json.dumps(entries).encode()
    with_bytes(holds, len(text).to_bytes(8, "little") + text + bytes(values))


def huge(path: Path) -> int:
    """The tensors of the transformer of 14B in bfloat16, by number and size; how many bytes they are."""
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for block in range(40):
        tensors |= {f"blocks.{block}.{i}.weight": ("BF16", (5120, 5120)) for i in range(8)}
        tensors |= {f"blocks.{block}.ffn.{i}.weight": ("BF16", (13824, 5120)) for i in range(2)}
        tensors |= {f"blocks.{block}.{i}.bias": ("BF16", (5120,)) for i in range(17)}
    write_sparse(path, tensors)
    return path.stat().st_size


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes take no room there")
def test_28_gb_take_no_time_and_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    assert huge(path) > 27_000_000_000
    code = (
        "import sys, time; from pathlib import Path; from engine.weights.header import read_header\n"
        "start = time.perf_counter(); header = read_header(Path(sys.argv[1])); seconds = time.perf_counter() - start\n"
        "status = dict(line.split(':') for line in Path('/proc/self/status').read_text().splitlines())\n"
        "print(len(header), seconds, status['VmHWM'].split()[0], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    count, seconds, peak_kib, has_torch = ran.stdout.split()
    assert int(count) == 40 * 27
    assert float(seconds) < 1
    assert int(peak_kib) < 200 << 10
    assert has_torch == "False"
