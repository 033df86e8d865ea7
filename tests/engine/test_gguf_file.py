"""GGUF files that other programs write, read back: values, shapes, and no more memory than what is read."""

import gc
import json
import math
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter

from engine.errors import EngineError, ErrorCode
from engine.weights.gguf_blocks import dequantize_blocks
from engine.weights.gguf_file import open_gguf
from engine.weights.header import TensorInfo
from tests.engine.gguf_writing import F16, INT32, RawGguf, array, tensor, words
from tests.parity.official import DATA

PREFIX = "model.diffusion_model."
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((6, 256), dtype=np.float32)
PATCH = RNG.standard_normal((8, 4, 1, 2, 2), dtype=np.float32)
MODULATION = RNG.standard_normal((1, 6, 16), dtype=np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As converters for ComfyUI write: prefixed names, a patch embedding in fewer dimensions than it has."""
    file = tmp_path_factory.mktemp("gguf") / "wan.gguf"
    writer = GGUFWriter(file, "wan")
    writer.add_quantization_version(2)
    writer.add_array("comfy.gguf.orig_shape." + PREFIX + "patch_embedding.weight", list(PATCH.shape))
    for kind in (GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q5_1):
        writer.add_tensor(PREFIX + f"{kind.name}.weight", gguf.quantize(WEIGHT, kind), raw_dtype=kind)
    flat = PATCH.reshape(8, 16)
    writer.add_tensor(
        PREFIX + "patch_embedding.weight",
        gguf.quantize(flat, GGMLQuantizationType.BF16),
        raw_dtype=GGMLQuantizationType.BF16,
    )
    writer.add_tensor(PREFIX + "modulation", MODULATION)
    writer.add_tensor(PREFIX + "bias", WEIGHT[0].astype(np.float16))
    writer.add_tensor("counts", np.arange(-3, 4, dtype=np.int64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def failure(file: Path, name: str) -> str:
    checkpoint = open_gguf(file)
    with pytest.raises(EngineError) as caught:
        checkpoint.read(name)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(file)
    return str(caught.value.details["reason"])


def test_the_header_of_a_written_file(written: Path) -> None:
    checkpoint = open_gguf(written)
    assert checkpoint.files == (written,)
    assert checkpoint.metadata["general.architecture"] == "wan"
    assert checkpoint.metadata["general.quantization_version"] == "2"
    assert checkpoint.header[PREFIX + "patch_embedding.weight"] == TensorInfo("BF16", PATCH.shape, PATCH.size * 2)
    assert checkpoint.header[PREFIX + "Q5_1.weight"] == TensorInfo("Q5_1", (6, 256), 6 * 8 * 24)
    assert checkpoint.header[PREFIX + "modulation"] == TensorInfo("F32", (1, 6, 16), 384)


def test_plain_tensors_come_in_their_dtype_and_shape(written: Path) -> None:
    read = open_gguf(written).read
    assert torch.equal(read(PREFIX + "patch_embedding.weight"), torch.from_numpy(PATCH).bfloat16())
    assert torch.equal(read(PREFIX + "modulation"), torch.from_numpy(MODULATION))
    assert torch.equal(read(PREFIX + "bias"), torch.from_numpy(WEIGHT[0]).half())
    assert torch.equal(read("counts"), torch.arange(-3, 4))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1"])
def test_blocks_come_as_bytes_of_rows(written: Path, kind: str) -> None:
    checkpoint = open_gguf(written)
    name = f"{PREFIX}{kind}.weight"
    blocks, info = checkpoint.read(name), checkpoint.header[name]
    expected = gguf.quantize(WEIGHT, GGMLQuantizationType[kind])
    assert torch.equal(blocks, torch.from_numpy(expected))
    values = dequantize_blocks(blocks, info.dtype, info.shape, torch.float32)
    assert np.array_equal(values.numpy(), gguf.dequantize(expected, GGMLQuantizationType[kind]))


def test_every_tensor_as_the_package_reads_it(written: Path) -> None:
    checkpoint = open_gguf(written)
    reader = gguf.GGUFReader(written)
    assert [stored.name for stored in reader.tensors] == list(checkpoint.header)
    for stored in reader.tensors:
        ours = checkpoint.read(stored.name).contiguous().view(-1).view(torch.uint8).numpy()
        assert ours.tobytes() == stored.data.tobytes()
        assert checkpoint.header[stored.name].byte_count == stored.n_bytes


def test_reshaped_blocks_keep_their_rows_and_know_their_shape(tmp_path: Path) -> None:
    """[4, 3, 1, 32] in rows of 128: no row of the weight itself is whole blocks of 256."""
    file = tmp_path / "reshaped.gguf"
    writer = GGUFWriter(file, "wan")
    writer.add_array("comfy.gguf.orig_shape.w", [4, 3, 1, 32])
    blocks = gguf.quantize(WEIGHT.flatten()[:384].reshape(3, 128), GGMLQuantizationType.Q8_0)
    writer.add_tensor("w", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_gguf(file)
    assert checkpoint.header["w"].shape == (4, 3, 1, 32)
    assert checkpoint.read("w").shape == (3, 136)
    assert dequantize_blocks(checkpoint.read("w"), "Q8_0", (4, 3, 1, 32), torch.float32).shape == (4, 3, 1, 32)


@pytest.mark.parametrize(("number_of_type", "name"), [(19, "IQ1_S"), (34, "TQ1_0"), (40, "NVFP4"), (77, "TYPE_77")])
def test_other_types_are_listed_and_not_read(tmp_path: Path, number_of_type: int, name: str) -> None:
    raw = RawGguf(tensors=(tensor("blocks.0.weight", (256, 2), number_of_type),), data=bytes(300))
    file = raw.write(tmp_path / "strange.gguf")
    assert open_gguf(file).header["blocks.0.weight"].dtype == name
    assert failure(file, "blocks.0.weight") == f"blocks.0.weight is stored as {name}, which cannot be read"


def test_a_name_that_is_not_there(written: Path) -> None:
    assert failure(written, "blocks.7.weight") == "blocks.7.weight is not in it"


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_file_that_changed_after_it_was_opened(tmp_path: Path, is_gone: bool) -> None:
    file = RawGguf(tensors=(tensor("a", (64,)),), data=bytes(256)).write(tmp_path / "changing.gguf")
    checkpoint = open_gguf(file)
    if is_gone:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EngineError) as caught:
        checkpoint.read("a")
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(file)


def test_tensors_share_a_map_that_goes_with_the_last_of_them(tmp_path: Path) -> None:
    content = RNG.integers(-128, 128, (3, 98304), dtype=np.int8)
    entries = tuple(tensor(name, (98304,), 24, i * 98304) for i, name in enumerate("abc"))
    file = RawGguf(tensors=entries, data=content.tobytes()).write(tmp_path / "mapped.gguf")
    checkpoint = open_gguf(file)
    read = [checkpoint.read(name) for name in "abc"]
    assert torch.equal(torch.stack(read), torch.from_numpy(content))
    assert checkpoint.read("a").data_ptr() == read[0].data_ptr()
    assert all(tensor.untyped_storage().nbytes() == 98304 for tensor in read)  # what counts memory counts these alone
    gc.disable()  # nothing may wait for the collector
    try:
        del checkpoint, read[1:]
        assert torch.equal(read[0], torch.from_numpy(content[0])), "the tensor keeps what it needs"
        del read
        assert not is_mapped(file)
    finally:
        gc.enable()


def is_mapped(file: Path) -> bool:
    maps = Path("/proc/self/maps")
    return maps.exists() and str(file) in maps.read_text()


def write_sparse_14b(file: Path) -> int:
    """The tensors of the published transformer of 14B in F16, none of their bytes on the disk. Returns how many values.

    The patch embedding has five dimensions, one too many for the format.
    """
    manifest = json.loads((DATA / "wan2.1_t2v_14B.json").read_text())["tensors"]
    shapes = {name: tuple(shape) for name, shape in manifest.items()}
    entries, start = [], 0
    for name, shape in shapes.items():
        entries.append(tensor(name, shape[::-1] if len(shape) <= 4 else (math.prod(shape[1:]), shape[0]), F16, start))
        start += -(-2 * math.prod(shape) // 32) * 32
    patch = shapes["patch_embedding.weight"]
    orig_shape = array("comfy.gguf.orig_shape.patch_embedding.weight", INT32, 5, struct.pack("<5i", *patch))
    RawGguf((words("general.architecture", "wan"), orig_shape), tuple(entries)).write(file)
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size + start)
    return sum(map(math.prod, shapes.values()))


MEASURED = """
import json, resource, sys, time
from pathlib import Path
import torch
from engine.weights.gguf_file import open_gguf
peak = lambda: int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
taken = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (taken + (1 << 30),) * 2)
before, began = peak(), time.process_time()
checkpoint = open_gguf(Path(sys.argv[1]))
opened = time.process_time() - began
tensors = {name: checkpoint.read(name) for name in checkpoint.header}
for name, read in tensors.items():
    assert read.shape == checkpoint.header[name].shape and read.flatten()[-1] == 0
values = sum(read.numel() for read in tensors.values())
print(json.dumps({"seconds": opened, "bytes": peak() - before, "values": values}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_a_large_file_opens_at_once(tmp_path: Path) -> None:
    """And all its tensors can be held in a process that may set aside 1 GiB, a thirtieth of the file."""
    file = tmp_path / "large.gguf"
    values = write_sparse_14b(file)
    assert file.stat().st_size > 28e9
    said = subprocess.run([sys.executable, "-c", MEASURED, str(file)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    measured = json.loads(said.stdout)
    assert measured["values"] == values
    assert measured["seconds"] < 1
    assert measured["bytes"] < 200e6
