"""From file to file: what is in it, that others and we read it, that little memory is needed, and that it is whole."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from comfy_kitchen.tensor import TensorCoreFP8Layout, TensorCoreNVFP4Layout
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine import cli_quantize
from engine.cli_job import CANCELLED, FINISHED, stop_signals
from engine.cli_quantize import quantize
from engine.errors import EngineError, ErrorCode
from engine.weights.containers import open_checkpoint
from engine.weights.dequantize import values_of
from engine.weights.identify import Description, identify
from engine.weights.quantize_file import quantize_file
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import QuantFormat, Sources, WeightSource
from tests.engine.weight_samples import relative_error

MINI = Path(__file__).parents[2] / "resources" / "mini"
TRANSFORMER = MINI / "diffusion_pytorch_model.safetensors"
TEXT_ENCODER = MINI / "models_t5_umt5.safetensors"
FORMS = [QuantFormat.FP8_E4M3, QuantFormat.NVFP4]
LIMITS = {QuantFormat.FP8_E4M3: 0.027, QuantFormat.NVFP4: 0.10}


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def plain_sources(file: Path) -> Sources:
    return {name: WeightSource(name, info.shape) for name, info in open_checkpoint((file,)).header.items()}


def quantized(source: Path, to: QuantFormat, output: Path) -> dict[str, Tensor]:
    quantize_file(open_checkpoint((source,)), plain_sources(source), to, output)
    return load_file(output)


def peer_values(tensors: dict[str, Tensor], layer: str, form: str, shape: tuple[int, ...]) -> Tensor:
    """The weight as comfy_kitchen reads it."""
    weight, scale = tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"]
    if form == "nvfp4":
        whole = tensors[f"{layer}.weight_scale_2"]
        nvfp4 = TensorCoreNVFP4Layout.Params(scale=whole, orig_dtype=torch.float32, orig_shape=shape, block_scale=scale)
        return TensorCoreNVFP4Layout.dequantize(weight, nvfp4)[: shape[0], : shape[1]]
    params = TensorCoreFP8Layout.Params(scale=scale, orig_dtype=torch.float32, orig_shape=shape)
    return TensorCoreFP8Layout.dequantize(weight, params)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("source", [TRANSFORMER, TEXT_ENCODER])
def test_the_peer_reads_every_layer_by_what_the_file_says(source: Path, to: QuantFormat, tmp_path: Path) -> None:
    before, after = load_file(source), quantized(source, to, tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        said = json.loads(file.metadata()["_quantization_metadata"])
    names = [name.removesuffix(".weight") for name in before]
    layers = {name for name in names if is_quantized_layer(name, to)}
    assert said["format_version"] == "1.0"
    assert set(said["layers"]) == layers
    for layer in layers:
        form = json.loads(bytes(after[f"{layer}.comfy_quant"].tolist()))
        assert form == said["layers"][layer] == {"format": to}
        weight = before[f"{layer}.weight"]
        read = peer_values(after, layer, form["format"], tuple(weight.shape))
        assert relative_error(read, weight) <= LIMITS[to]
    endings = (".comfy_quant", ".weight_scale", ".weight_scale_2")
    assert {name for name in after if not name.endswith(endings)} == set(before)


@pytest.mark.parametrize("to", FORMS)
def test_the_others_keep_their_values(to: QuantFormat, tmp_path: Path) -> None:
    before = load_file(TRANSFORMER)
    before["blocks.0.modulation"] = before["blocks.0.modulation"].float() * 1.0001  # the network keeps it so
    before["text_embedding.0.bias"] = before["text_embedding.0.bias"].half()
    before["patch_embedding.weight"] = before["patch_embedding.weight"].float() * 1.0001  # and this not
    save_file(before, tmp_path / "in.safetensors")
    after = quantized(tmp_path / "in.safetensors", to, tmp_path / "out.safetensors")
    for name, tensor in before.items():
        if not is_quantized_layer(name.removesuffix(".weight"), to):
            dtype = torch.bfloat16 if name == "patch_embedding.weight" else tensor.dtype
            assert after[name].dtype is dtype
            assert torch.equal(after[name], tensor.to(dtype))


def test_the_tokenizer_of_a_text_encoder_is_kept(tmp_path: Path) -> None:
    tokenizer = torch.arange(251, dtype=torch.uint8)
    save_file(load_file(TEXT_ENCODER) | {"spiece_model": tokenizer}, tmp_path / "in.safetensors")
    sources = plain_sources(TEXT_ENCODER)
    checkpoint = open_checkpoint((tmp_path / "in.safetensors",))
    quantize_file(checkpoint, sources, QuantFormat.NVFP4, tmp_path / "out.safetensors")
    assert torch.equal(load_file(tmp_path / "out.safetensors")["spiece_model"], tokenizer)


def identified(file: Path) -> Description:
    stored = open_checkpoint((file,))

    def read(name: str) -> bytes:
        return stored.read(name).contiguous().flatten().numpy().tobytes()

    return identify(stored.header, stored.metadata, file, read)


@pytest.mark.parametrize("first", FORMS)
def test_what_we_wrote_is_read_and_made_smaller_again(first: QuantFormat, tmp_path: Path) -> None:
    quantized(TEXT_ENCODER, first, tmp_path / "once.safetensors")
    once = open_checkpoint((tmp_path / "once.safetensors",))
    model = identified(tmp_path / "once.safetensors")
    assert not model.missing
    assert not model.unexpected
    assert {source.quantization for source in model.sources.values()} == {None, first}
    before = load_file(TEXT_ENCODER)
    for name, source in model.sources.items():
        read = values_of(source, once.read, once.header, torch.float32)
        assert relative_error(read, before[name]) <= LIMITS[first]
    quantize_file(once, model.sources, QuantFormat.NVFP4, tmp_path / "twice.safetensors")
    assert set(identified(tmp_path / "twice.safetensors").sources) == set(before)


@pytest.mark.parametrize("to", FORMS)
def test_odd_sizes_keep_every_tensor_aligned(to: QuantFormat, tmp_path: Path) -> None:
    tensors = {
        "blocks.0.ffn.0.weight": torch.randn(33, 47).bfloat16(),
        "blocks.0.ffn.0.bias": torch.randn(33).bfloat16(),
        "blocks.0.norm3.weight": torch.randn(3),
        "blocks.0.ffn.2.weight": torch.randn(1, 1).half(),
        "head.head.bias": torch.randn(5).half(),
        "empty": torch.zeros(0, 4),
    }
    save_file(tensors, tmp_path / "in.safetensors")
    after = quantized(tmp_path / "in.safetensors", to, tmp_path / "out.safetensors")
    assert torch.equal(after["blocks.0.norm3.weight"], tensors["blocks.0.norm3.weight"])
    read = peer_values(after, "blocks.0.ffn.0", to, (33, 47))
    assert relative_error(read, tensors["blocks.0.ffn.0.weight"]) < LIMITS[to]


def refused(write: Callable[[], object]) -> EngineError:
    with pytest.raises(EngineError) as caught:
        write()
    return caught.value


def test_a_weight_that_is_not_finite_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    tensors = load_file(TRANSFORMER)
    tensors["blocks.3.ffn.2.weight"][5, 7] = float("nan")
    save_file(tensors, tmp_path / "in.safetensors")
    error = refused(lambda: quantized(tmp_path / "in.safetensors", FORMS[0], tmp_path / "out.safetensors"))
    assert error.code is ErrorCode.MODEL_INVALID
    assert "blocks.3.ffn.2.weight: it holds a value that is not finite" in str(error)
    assert [file.name for file in tmp_path.iterdir()] == ["in.safetensors"]


def test_a_network_without_such_layers_is_refused(tmp_path: Path) -> None:
    error = refused(lambda: quantized(MINI / "Wan2.1_VAE.safetensors", FORMS[0], tmp_path / "out.safetensors"))
    assert error.code is ErrorCode.MODEL_INVALID
    assert not any(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    error = refused(lambda: quantized(TRANSFORMER, FORMS[0], tmp_path / "no" / "out.safetensors"))
    assert error.code is ErrorCode.OUTPUT_NOT_WRITABLE


def test_stopping_leaves_the_old_file(tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    output.write_bytes(b"old")
    begun: list[int] = []

    def stop() -> None:
        begun.append(1)
        if len(begun) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_file(open_checkpoint((TRANSFORMER,)), plain_sources(TRANSFORMER), FORMS[1], output, stop)
    assert output.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.safetensors"]


MEASURE = """
import resource, sys
from pathlib import Path
import torch
from engine.weights.containers import open_checkpoint
from engine.weights.quantize_file import quantize_file
from engine.weights.source import QuantFormat, WeightSource
torch.set_num_threads(1)

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10

stored = open_checkpoint((Path(sys.argv[1]),))
sources = {name: WeightSource(name, info.shape) for name, info in stored.header.items()}
before, peak = anonymous(), 0

import threading
done = threading.Event()
def watch():
    global peak
    while not done.wait(0.001):
        peak = max(peak, anonymous())
watcher = threading.Thread(target=watch)
watcher.start()
quantize_file(stored, sources, QuantFormat(sys.argv[3]), Path(sys.argv[2]))
done.set()
watcher.join()
print(peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts anonymous memory, which only Linux tells apart")
@pytest.mark.parametrize("to", FORMS)
def test_memory_does_not_grow_with_the_file(to: QuantFormat, tmp_path: Path) -> None:
    shape = (1024, 2048)
    tensors = {f"blocks.{i}.ffn.0.weight": torch.randn(shape).bfloat16() for i in range(12)}  # 4 MiB each
    tensors["token_embedding.weight"] = torch.randn(16384, 1024)  # 64 MiB, to be rounded
    save_file(tensors, tmp_path / "in.safetensors")
    files = str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors")
    arguments = [sys.executable, "-c", MEASURE, *files, to]
    measured = subprocess.run(arguments, capture_output=True, encoding="utf-8", check=True)
    assert int(measured.stdout) <= 50 << 20  # of 160 MiB in the file


@pytest.fixture
def _handlers_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stop_signals()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers_put_back")
def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.safetensors"
    assert quantize(TEXT_ENCODER, "fp8_scaled", output, as_json=True) == FINISHED
    said = json.loads(capsys.readouterr().out)
    assert said["output"] == str(output)
    assert said["bytes"] == output.stat().st_size < said["bytes_before"]
    assert identified(output).quantization["float8_e4m3fn"].layers == 7 * 2


@pytest.mark.usefixtures("_handlers_put_back")
def test_command_line_that_is_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_quantize, "cancel_on_signals", lambda flag: flag.set())
    assert quantize(TEXT_ENCODER, "fp4_scaled", tmp_path / "out.safetensors", as_json=False) == CANCELLED
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("_handlers_put_back")
def test_command_line_on_a_network_that_is_not_whole(tmp_path: Path) -> None:
    tensors = load_file(TEXT_ENCODER)
    del tensors["blocks.1.ffn.fc1.weight"]
    save_file(tensors, tmp_path / "in.safetensors")
    error = refused(
        lambda: quantize(tmp_path / "in.safetensors", "fp8_scaled", tmp_path / "out.safetensors", as_json=True)
    )
    assert "missing: blocks.1.ffn.fc1.weight" in str(error)
