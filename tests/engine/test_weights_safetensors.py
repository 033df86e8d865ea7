"""Values of safetensors files: those of the format's own library, mapped, and never of a file that has changed."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import EngineError, ErrorCode
from engine.weights.checkpoint import Checkpoint
from engine.weights.containers import open_checkpoint
from engine.weights.finite import PIECE_BYTES, check_finite
from engine.weights.mapped_file import DTYPES
from tests.engine.sparse_files import write_sparse

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="files with holes take no room there")


def random_bits(dtype: torch.dtype, *shape: int) -> Tensor:
    """Any bits, NaN among them, but for truth values, of which there are two."""
    if dtype is torch.bool:
        return torch.rand(shape) < 0.5
    return torch.randint(0, 256, (*shape[:-1], shape[-1] * dtype.itemsize), dtype=torch.uint8).view(dtype)


def bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def assert_same(stored: Tensor, expected: Tensor) -> None:
    assert stored.dtype is expected.dtype
    assert stored.shape == expected.shape
    assert torch.equal(bits(stored), bits(expected)) if expected.numel() else not stored.numel()


def refused(checkpoint: Checkpoint, name: str) -> str:
    with pytest.raises(EngineError) as caught:
        checkpoint.read(name)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(checkpoint.files[0])
    return str(caught.value.details["reason"])


def test_all_dtypes_are_read_as_the_formats_library_reads_them(tmp_path: Path) -> None:
    tensors = {name: random_bits(dtype, 3, 5, 4) for name, dtype in DTYPES.items()}
    tensors |= {"F4": random_bits(torch.float4_e2m1fn_x2, 3, 5, 4), "scalar": torch.tensor(1.5)}
    tensors |= {"empty": torch.zeros(2, 0, 3), "row": torch.zeros(0, dtype=torch.float8_e4m3fn)}
    save_file(tensors, path := tmp_path / "a.safetensors", {"format": "pt"})
    checkpoint = open_checkpoint((path,))
    assert checkpoint.files == (path,)
    assert checkpoint.metadata == {"format": "pt"}
    assert checkpoint.header["F4"].shape == (3, 5, 8)
    for name, expected in load_file(path).items():
        assert_same(checkpoint.read(name), expected)
        assert checkpoint.header[name].byte_count == expected.nbytes
    assert checkpoint.header.keys() == tensors.keys()


@pytest.mark.parametrize("shift", range(8))
def test_values_that_lie_at_odd_places(tmp_path: Path, shift: int) -> None:
    """Some programs write headers of any length, and single bytes before wider values."""
    text = (
        b'{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"F32","shape":[2],"data_offsets":[3,11]}}'
    )
    text += b" " * shift
    values = torch.tensor([1.5, -2.0])
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"123" + values.numpy().tobytes())
    read = open_checkpoint((path,)).read("b")
    assert torch.equal(read, values)
    assert read.data_ptr() % 4 == 0


@LINUX_ONLY
@pytest.mark.parametrize(("dtype", "words"), [("F6_E2M3", "F6_E2M3 cannot"), ("F4", "rows of 1 values")])
def test_values_that_torch_has_no_dtype_for(tmp_path: Path, dtype: str, words: str) -> None:
    write_sparse(path := tmp_path / "a", {"x.weight": (dtype, (4, 1))})
    assert refused(open_checkpoint((path,)), "x.weight").startswith("x.weight: ")
    assert words in refused(open_checkpoint((path,)), "x.weight")


@LINUX_ONLY
def test_one_tensor_of_28_gb_is_read_without_the_others(tmp_path: Path) -> None:
    """In a process of its own that may use no more memory than a tenth of the file."""
    path = tmp_path / "a.safetensors"
    write_sparse(path, {f"blocks.{i}.weight": ("BF16", (13824, 5120)) for i in range(200)})
    assert path.stat().st_size > 28_000_000_000
    code = (
        "import sys; from pathlib import Path; from engine.weights.containers import open_checkpoint\n"
        "from engine.weights.finite import check_finite\n"
        "def figure(name):\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return int(dict(line.split(':') for line in lines)[name].split()[0])\n"
        "file = Path(sys.argv[1]); before = figure('VmHWM'); read = open_checkpoint((file,)).read\n"
        "tensors = [read(f'blocks.{i}.weight') for i in range(200)]; opened = figure('VmHWM')\n"
        "check_finite('blocks.150.weight', tensors[150], file); print(opened - before, figure('VmHWM') - opened)\n"
        "print([line.split()[1] for line in open('/proc/self/maps') if line.strip().endswith(str(file))])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    figures, maps = ran.stdout.splitlines()
    opened_kib, used_kib = map(int, figures.split())
    assert opened_kib < 10 << 10
    assert used_kib < 200 << 10, "142 MB were looked at"
    assert maps == "['r--s']", "one map, for which no memory is set aside"
    assert not ran.stderr, "torch's warning of tensors that must not be written to is not for the person"


def test_a_file_is_let_go_with_its_last_tensor(tmp_path: Path) -> None:
    save_file({"a": torch.arange(8), "b": torch.arange(9)}, path := tmp_path / "a.safetensors")
    checkpoint = open_checkpoint((path,))
    gc.disable()  # nothing may wait for the collector
    try:
        tensor = checkpoint.read("a")
        del checkpoint
        path.unlink() if sys.platform != "win32" else None
        assert torch.equal(tensor, torch.arange(8)), "the tensor keeps what it needs"
        del tensor
        assert not is_mapped(path)
    finally:
        gc.enable()


def is_mapped(path: Path) -> bool:
    maps = Path("/proc/self/maps")
    return maps.exists() and str(path) in maps.read_text()


def gone(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def grown(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replaced(path: Path) -> None:
    save_file({"a": torch.ones(100), "more": torch.ones(1)}, other := path.with_name("other"))
    other.replace(path)


def written_over(path: Path) -> None:
    stamp = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000_000))


@LINUX_ONLY
@pytest.mark.parametrize("change", [gone, truncated, emptied, grown, replaced, written_over])
@pytest.mark.parametrize("write", [save_file, torch.save], ids=["safetensors", "torch"])
def test_a_file_that_changes_in_use(
    tmp_path: Path, write: Callable[[dict[str, Tensor], Path], None], change: Callable[[Path], None]
) -> None:
    write({"a": torch.zeros(10_000)}, path := tmp_path / "a.pth")
    checkpoint = open_checkpoint((path,))
    checkpoint.read("a")
    change(path)
    assert refused(checkpoint, "a").startswith("gone" if change is gone else "changed while it was in use")


FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2, torch.complex64]
NANS = [*FLOATS, torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu]


def is_finite(tensor: Tensor) -> bool:
    try:
        check_finite("x.weight", tensor, Path("a"))
    except EngineError as error:
        assert error.code is ErrorCode.MODEL_INVALID  # noqa: PT017
        assert error.details == {"file": "a", "reason": "x.weight: not all of its values are finite numbers"}  # noqa: PT017
        return False
    return True


@pytest.mark.parametrize("dtype", NANS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_no_numbers_are_found(dtype: torch.dtype, bad: float) -> None:
    values = torch.ones(7, 9)
    assert is_finite(values.to(dtype))
    values[6, 8] = bad
    cast = values.to(dtype)
    assert is_finite(cast) == bool(torch.isfinite(cast.to(torch.complex64)).all())
    assert not is_finite(cast) or dtype not in FLOATS


@pytest.mark.parametrize("dtype", [dtype for dtype in NANS if dtype.itemsize == 1])
def test_every_byte_of_the_small_floats(dtype: torch.dtype) -> None:
    """Against what torch makes of each; so the largest numbers pass."""
    for byte in range(256):
        value = torch.tensor([byte], dtype=torch.uint8).view(dtype)
        assert is_finite(value) == bool(torch.isfinite(value.float())), byte


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_largest_numbers_are_numbers(dtype: torch.dtype) -> None:
    assert is_finite(torch.full((100,), torch.finfo(dtype).max, dtype=dtype))


def test_what_has_no_such_values_passes() -> None:
    for dtype in (torch.uint8, torch.int8, torch.int64, torch.bool, torch.float4_e2m1fn_x2):
        assert is_finite(random_bits(dtype, 3, 8))
    assert is_finite(torch.zeros(0))
    assert is_finite(torch.zeros(3, 4).t())


def test_the_last_piece_of_a_long_tensor_is_looked_at() -> None:
    long = torch.zeros(PIECE_BYTES + 3, dtype=torch.uint8)
    long[-1] = 0xFF
    assert not is_finite(long.view(torch.float8_e4m3fn))
    assert not is_finite(long.view(torch.float8_e8m0fnu))


def test_what_is_of_no_kind_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(100), b"GG", b"version https://git-lfs.github.com/spec/v1\n"):
        path.write_bytes(content)
        with pytest.raises(EngineError, match="neither a safetensors file, nor GGUF"):
            open_checkpoint((path,))


def test_gguf_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    (path := tmp_path / "a.safetensors").write_bytes(b"GGUF" + bytes(4))
    with pytest.raises(EngineError) as caught:
        open_checkpoint((path,))
    assert "safetensors" not in str(caught.value.details["reason"])
