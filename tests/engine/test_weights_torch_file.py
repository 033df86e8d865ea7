"""Files of `torch.save` as checkpoints: the values that were saved, no code run, no claim of a file believed."""

import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.serialization import skip_data

from engine.errors import EngineError, ErrorCode
from engine.weights.containers import open_checkpoint
from engine.weights.mapped_file import DTYPES
from tests.engine.latents_writing import compress, edit_pickle
from tests.engine.test_weights_safetensors import assert_same, random_bits

STATE = {"blocks.0.weight": torch.arange(12.0).reshape(3, 4), "blocks.0.bias": torch.ones(3).bfloat16()}


def refused(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        open_checkpoint((path,))
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(path)
    return str(caught.value.details["reason"])


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.safetensors", "a"])
def test_all_dtypes_are_read_as_they_were_saved(tmp_path: Path, name: str) -> None:
    tensors = {name: random_bits(dtype, 3, 5, 4) for name, dtype in DTYPES.items()}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(2, 0, 3), "parameter": nn.Parameter(torch.ones(2))}
    checkpoint = open_checkpoint((saved(tmp_path / name, tensors),))
    assert checkpoint.header.keys() == tensors.keys()
    assert checkpoint.metadata == {}
    for name, expected in tensors.items():
        read, info = checkpoint.read(name), checkpoint.header[name]
        assert_same(read, expected.detach())
        assert not read.requires_grad
        assert (info.shape, info.byte_count) == (tuple(expected.shape), expected.nbytes)
        assert DTYPES[info.dtype] is expected.dtype


def test_views_of_other_tensors(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    views = {"whole": whole, "rows": whole[1:3], "columns": whole[:, 2:4], "turned": whole.t(), "one": whole[3, 5]}
    checkpoint = open_checkpoint((saved(tmp_path / "a.pth", views),))
    for name, expected in views.items():
        assert torch.equal(checkpoint.read(name), expected), name
        assert checkpoint.header[name].byte_count == expected.nbytes


@pytest.mark.parametrize("wrapper", ["model_state", "state_dict", "model"])
@pytest.mark.parametrize("kind", [dict, OrderedDict])
def test_wrapped_state_dicts(tmp_path: Path, wrapper: str, kind: type[dict[str, Tensor]]) -> None:
    content: dict[str, Any] = {"epoch": 3, wrapper: kind(STATE), "optimizer": {"state": [1, 2]}}
    checkpoint = open_checkpoint((saved(tmp_path / "a.pth", content),))
    assert checkpoint.header.keys() == STATE.keys()
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in STATE.items())


def test_the_state_of_a_module_and_a_tensor_called_model(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    checkpoint = open_checkpoint((saved(tmp_path / "a.pth", module.state_dict()),))
    assert torch.equal(checkpoint.read("weight"), module.weight)
    checkpoint = open_checkpoint((saved(tmp_path / "b.pth", {"model": torch.ones(2)}),))
    assert checkpoint.header.keys() == {"model"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(2)], "it holds a list"), (torch.ones(2), "holds a Tensor"), ({3: torch.ones(2)}, "3 is no name"),
        ({"a": 1}, "a: a int, not a tensor"), ({"a": {"b": torch.ones(2)}}, "a: a dict, not a tensor"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a: a tensor of another kind: torch.sparse_coo"),
        ({"a": torch.ones(4).expand(3, 4)}, "takes more than its 16 bytes"),
        ({"a": torch.zeros(1).as_strided((10**4,) * 4, (0,) * 4)}, "takes more than its 4 bytes"),
        ({"a": torch.zeros(2, dtype=torch.complex128)}, "a: a tensor of another kind"),
        ({"a": torch.ones(2, device="meta")}, "a: "), (nn.Linear(2, 2), "may run code"),
    ],
)  # fmt: skip
def test_what_is_no_state_dict(tmp_path: Path, content: object, words: str) -> None:
    assert words in refused(saved(tmp_path / "a.pth", content))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "a.pt")
    assert "not a state dict of torch.save" in refused(tmp_path / "a.pt")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whole_numbers_that_stand_for_others(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8)
    assert "not a state dict of torch.save" in refused(saved(tmp_path / "a.pth", {"a": quantized}))


def test_compressed_values_are_not_taken_for_values(tmp_path: Path) -> None:
    compress(path := saved(tmp_path / "a.pth", STATE))
    assert "compressed" in refused(path)


def test_a_pickle_of_old(tmp_path: Path) -> None:
    torch.save(STATE, path := tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert "version 1.6" in refused(path)


@pytest.mark.parametrize("kept", [3, 4, 30, 300, -1])
def test_a_file_that_is_cut_short(tmp_path: Path, kept: int) -> None:
    path = saved(tmp_path / "a.pth", STATE)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(path)


def test_a_shape_beyond_its_values(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"a": torch.ones(3, 4)})
    edit_pickle(path, b"K\x03K\x04", b"M\xff\xffM\xff\xff")
    assert "bytes are not in the file" in refused(path)


def test_a_storage_beyond_its_bytes(tmp_path: Path) -> None:
    """Shape and storage agree on far more values than the archive has."""
    path = saved(tmp_path / "a.pth", {"a": torch.ones(3, 4)})
    edit_pickle(path, b"K\x03K\x04", b"J\x00\x00\x50\x00K\x04")
    edit_pickle(path, b"K\x0ctq", b"J\x00\x00\x40\x01tq")
    assert "bytes are not in the file" in refused(path)


def test_an_archive_that_another_program_packed_anew(tmp_path: Path) -> None:
    """Its values lie elsewhere than torch would have put them: refused, or read from where they are; never others."""
    path = saved(tmp_path / "a.pth", STATE)
    with zipfile.ZipFile(path) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    for order in (list(entries), list(reversed(entries))):
        with zipfile.ZipFile(path, "w") as target:
            for name in order:
                target.writestr(name, entries[name])
        try:
            checkpoint = open_checkpoint((path,))
        except EngineError as error:
            assert "are not in the file" in str(error)  # noqa: PT017
        else:
            assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in STATE.items())


@pytest.mark.parametrize("order", [b"big", b"any", b""])
def test_values_in_another_byte_order(tmp_path: Path, order: bytes) -> None:
    """Torch itself ends the process when it is asked for the names and shapes alone of such a file."""
    path = saved(tmp_path / "a.pth", STATE)
    with zipfile.ZipFile(path) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in entries.items():
            target.writestr(name, order if name.endswith("byteorder") else content)
    assert "byte order" in refused(path)


class Calls:
    """Unpickled without care, calls a function."""

    def __init__(self, function: Callable[..., object], *values: object) -> None:
        self.call = (function, values)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec])
def test_nothing_in_a_file_is_run(tmp_path: Path, function: Callable[..., object]) -> None:
    mark = tmp_path / "was_here"
    words = {os.mkdir: str(mark), os.system: f'mkdir "{mark}"'}
    payload = Calls(function, words.get(function, f"__import__('os').mkdir({str(mark)!r})"))
    for content in (payload, {"a": torch.ones(2), "b": payload}, {"state_dict": payload}, [payload]):
        assert "may run code" in refused(saved(tmp_path / "a.pth", content))
        torch.save(content, path := tmp_path / "b.pth", _use_new_zipfile_serialization=False)
        assert "may run code" in refused(path)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps(payload, protocol))
        refused(path)
    assert not mark.exists()
    with path.open("rb") as file:
        pickle.load(file)
    assert mark.exists(), "the payload works"


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4), st.just(1.0) | st.floats(0, 1))
def test_spoiled_bytes_are_refused_or_give_tensors(edits: list[tuple[float, int]], kept: float) -> None:
    """Few values, so that most of the file is pickle and directory."""
    with tempfile.TemporaryDirectory() as folder:
        content = bytearray(saved(path := Path(folder) / "a.pth", STATE).read_bytes())
        for place, value in edits:
            content[int(place * (len(content) - 1))] = value
        path.write_bytes(content[: int(kept * len(content))])
        try:
            checkpoint = open_checkpoint((path,))
            for name, info in checkpoint.header.items():
                tensor = checkpoint.read(name)
                assert (tuple(tensor.shape), tensor.nbytes) == (info.shape, info.byte_count)
                assert tensor.clone().nbytes <= len(content)
        except EngineError as error:
            assert error.code is ErrorCode.MODEL_INVALID  # noqa: PT017
            assert str(error).encode(), "what is said can be printed"  # noqa: PT017


@pytest.mark.skipif(sys.platform != "linux", reason="files with holes take no room there")
def test_11_gb_take_no_time_and_no_memory(tmp_path: Path) -> None:
    """The size of the official text encoder's file, one tensor of which is read."""
    path = tmp_path / "models_t5.pth"
    with skip_data(materialize_fake_tensors=True), FakeTensorMode():
        torch.save({f"blocks.{i}.weight": torch.empty(10240, 4096, dtype=torch.bfloat16) for i in range(140)}, path)
    assert path.stat().st_size > 11_000_000_000
    code = (
        "import sys, time; from pathlib import Path; from engine.weights.containers import open_checkpoint\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return int(dict(line.split(':') for line in lines)['VmHWM'].split()[0])\n"
        "before, start = peak(), time.perf_counter(); checkpoint = open_checkpoint((Path(sys.argv[1]),))\n"
        "seconds = time.perf_counter() - start; values = checkpoint.read('blocks.139.weight').sum()\n"
        "print(seconds, peak() - before, float(values))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seconds, kib, values = ran.stdout.split()
    assert float(seconds) < 3
    assert int(kib) < 200 << 10
    assert float(values) == 0
