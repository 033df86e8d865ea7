"""One model in every layout that people have it in: loaded to the same values, and a whole job run with it."""

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.cancel import Cancelled
from engine.commands import DecodeLatents
from engine.errors import EngineError
from engine.events import JobFailed, JobFinished, LatentsSaved, LoraMatched, ProductsChosen
from engine.model_choice import LoraUse, ModelParts, WeightForm
from engine.models.quantized_linear import QuantizedLinear
from engine.weights.card import network_bytes
from engine.weights.dequantize import WORK_BYTES
from engine.weights.detect import find_model
from engine.weights.families import Role
from engine.weights.header import read_header
from engine.weights.load import (
    load_text_encoder,
    load_transformer,
    load_vae,
)
from engine.weights.load_swapped import transformer_network_bytes
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import QuantFormat
from engine.weights.whole import describe
from tests.engine.job_run import Run, tiny_command
from tests.engine.tiny_model import TRANSFORMER, build_tiny_model
from tests.parity.official import RENAMES, rename

CPU = torch.device("cpu")
State = dict[str, Tensor]
TRANSFORMER_FILE, ENCODER_FILE, VAE_FILE = (
    "diffusion_pytorch_model.safetensors", "models_t5_umt5.safetensors", "Wan2.1_VAE.safetensors",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny model whose layers' widths are multiples of the blocks of every quantised form."""
    return build_tiny_model(tmp_path / "model", dataclasses.replace(TRANSFORMER, dim=64, ffn_dim=128))


def as_pth(file: Path) -> None:
    torch.save(load_file(file), file.with_suffix(".pth"))
    file.unlink()


def with_prefix(file: Path) -> None:
    save_file({f"model.diffusion_model.{name}": tensor for name, tensor in load_file(file).items()}, file)


def renamed_to(table: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        save_file({rename(name, RENAMES[table]): tensor for name, tensor in load_file(file).items()}, file)

    return change


def as_gguf(file: Path, kind: GGMLQuantizationType | None = None) -> None:
    writer = GGUFWriter(file.with_suffix(".gguf"), "wan")
    for name, tensor in load_file(file).items():
        if kind is not None and is_quantized_layer(name.removesuffix(".weight"), QuantFormat.NVFP4):
            writer.add_tensor(name, quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file.unlink()


LOSSLESS = [
    ("official .pth", TRANSFORMER_FILE, as_pth),
    ("prefix", TRANSFORMER_FILE, with_prefix),
    ("diffusers transformer", TRANSFORMER_FILE, renamed_to("transformer")),
    ("GGUF of floats", TRANSFORMER_FILE, as_gguf),
    ("transformers umT5", ENCODER_FILE, renamed_to("text_encoder")),
    ("umT5 .pth", ENCODER_FILE, as_pth),
    ("diffusers VAE", VAE_FILE, renamed_to("video_vae")),
    ("VAE .pth", VAE_FILE, as_pth),
]


def networks(model: Path) -> dict[str, nn.Module]:
    files = find_model(model)
    return {
        "transformer": load_transformer(files, CPU, torch.float32),
        "text_encoder": load_text_encoder(files, CPU, torch.float32),
        "vae": load_vae(files, CPU, torch.float32),
    }


@pytest.mark.parametrize(("_", "file", "change"), LOSSLESS, ids=[case[0] for case in LOSSLESS])
def test_values_are_the_same_in_every_layout(model: Path, _: str, file: str, change: Callable[[Path], None]) -> None:
    before = {name: network.state_dict() for name, network in networks(model).items()}
    before = {name: {key: tensor.clone() for key, tensor in state.items()} for name, state in before.items()}
    change(model / file)
    for name, network in networks(model).items():
        assert network.state_dict().keys() == before[name].keys()
        assert all(torch.equal(tensor, before[name][key]) for key, tensor in network.state_dict().items())


def bytes_of(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in network.state_dict().values())


@pytest.mark.parametrize("form", list(WeightForm))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_loading_will_hold_is_known_before(model: Path, form: WeightForm, dtype: torch.dtype) -> None:
    files = find_model(model)
    loaded, foretold = load_transformer(files, CPU, dtype, form=form), transformer_network_bytes(files, dtype, form, ())
    assert foretold.total == bytes_of(loaded)
    assert foretold.work == (WORK_BYTES if form is not WeightForm.STORED else 0)
    encoder = network_bytes(describe(files.text_encoder, Role.TEXT_ENCODER), WeightForm.STORED, dtype.itemsize)
    assert encoder.total == bytes_of(load_text_encoder(files, CPU, dtype))


def scaled_fp8(file: Path) -> None:
    """As the older quantised files of Comfy-Org are: a mark, and one scale a layer."""
    state: State = {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)}
    for name, tensor in load_file(file).items():
        layer = name.removesuffix(".weight")
        if is_quantized_layer(layer, QuantFormat.NVFP4) and name != layer:
            scale = tensor.abs().max() / 448
            state[name] = (tensor / scale).to(torch.float8_e4m3fn)
            state[f"{layer}.scale_weight"] = scale
        else:
            state[name] = tensor.to(torch.float16)
    save_file(state, file)


def by_our_own_command(form: str) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        made = file.with_name("made.safetensors")
        command = [sys.executable, "-m", "engine", "quantize", str(file), "--to", form, "-o", str(made)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        made.replace(file)

    return change


QUANTIZED = [
    ("scaled fp8", scaled_fp8, 0.04),
    ("GGUF Q8_0", lambda file: as_gguf(file, GGMLQuantizationType.Q8_0), 0.01),
    ("GGUF Q4_0", lambda file: as_gguf(file, GGMLQuantizationType.Q4_0), 0.15),
    ("our fp8", by_our_own_command("fp8_scaled"), 0.04),
    ("our fp4", by_our_own_command("fp4_scaled"), 0.15),
]


@pytest.mark.parametrize(("name", "change", "limit"), QUANTIZED, ids=[case[0] for case in QUANTIZED])
def test_a_job_runs_on_quantised_weights_as_they_are_stored(
    model: Path, tmp_path: Path, name: str, change: Callable[[Path], None], limit: float
) -> None:
    inputs = torch.randn(1, 8, 3, 6, 8), torch.tensor([700.0]), torch.randn(1, 16, 32)
    exact = load_transformer(find_model(model), CPU, torch.float32)(*inputs)
    change(model / TRANSFORMER_FILE)
    files = find_model(model)
    transformer = load_transformer(files, CPU, torch.float32)
    foretold = transformer_network_bytes(files, torch.float32, WeightForm.STORED, ())
    assert (foretold.total, foretold.work) == (bytes_of(transformer), WORK_BYTES)
    text_embedding = 2 if name == "our fp8" else 0
    assert sum(isinstance(layer, QuantizedLinear) for layer in transformer.modules()) == 2 * 10 + text_embedding
    assert 0 < (transformer(*inputs) - exact).norm() / exact.norm() <= limit
    assert isinstance(Run(tiny_command(model, tmp_path), tmp_path / "jobs")(), JobFinished)


@pytest.mark.parametrize("form", [WeightForm.FP8_SCALED, WeightForm.FP4_SCALED])
def test_a_job_makes_its_weights_smaller(model: Path, tmp_path: Path, form: WeightForm) -> None:
    command = dataclasses.replace(tiny_command(model, tmp_path), weights=form, rounds_input=True)
    run = Run(command, tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    layers = 22 if form is WeightForm.FP8_SCALED else 20
    assert ProductsChosen("dequantized", "not_nvidia", layers) in run.events
    assert not np.array_equal(run.canvas.pixels, pixels_of(tiny_command(model, tmp_path / "plain")))


def pixels_of(command: object) -> np.ndarray:
    run = Run(command, command.output.parent / "jobs")  # type: ignore[attr-defined,arg-type]
    assert isinstance(run(), JobFinished)
    return run.canvas.pixels


def lora_file(folder: Path, rank: int = 4) -> Path:
    generator = torch.Generator().manual_seed(0)
    layer = "diffusion_model.blocks.1.ffn.0"
    factors = {
        f"{layer}.lora_down.weight": torch.randn(rank, 64, generator=generator),
        f"{layer}.lora_up.weight": torch.randn(128, rank, generator=generator) / 8,
    }
    save_file(factors, folder / "style.safetensors")
    return folder / "style.safetensors"


@pytest.mark.parametrize("form", [WeightForm.STORED, WeightForm.FP8_SCALED])
def test_loras_of_a_job(model: Path, tmp_path: Path, form: WeightForm) -> None:
    """Strength 0 is no LoRA to the bit; twice half the strength is the whole."""
    lora = lora_file(tmp_path)

    def pixels(name: str, *uses: LoraUse) -> np.ndarray:
        command = dataclasses.replace(tiny_command(model, tmp_path / name), weights=form, loras=uses)
        return pixels_of(command).astype(int)

    without = pixels("without")
    assert np.array_equal(without, pixels("zero", LoraUse(lora, 0.0)))
    whole = pixels("whole", LoraUse(lora))
    assert not np.array_equal(without, whole)
    assert np.abs(whole - pixels("halves", LoraUse(lora, 0.5), LoraUse(lora, 0.5))).max() <= 1


def test_what_of_a_lora_is_not_used_is_told(model: Path, tmp_path: Path) -> None:
    file = lora_file(tmp_path)
    strangers = {"diffusion_model.blocks.1.cross_attn.k_img.diff": torch.ones(64, 64), "mystery": torch.ones(1)}
    save_file(load_file(file) | strangers, file)
    run = Run(dataclasses.replace(tiny_command(model, tmp_path), loras=(LoraUse(file),)), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    (matched,) = [event for event in run.events if isinstance(event, LoraMatched)]
    assert matched == LoraMatched(file, 1, ("diffusion_model.blocks.1.cross_attn.k_img.diff",), ("mystery",))


def test_a_lora_for_another_model_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    layer = "diffusion_model.blocks.0.ffn.0"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 5120), f"{layer}.lora_B.weight": torch.ones(13824, 2)}, file)
    end = Run(dataclasses.replace(tiny_command(model, tmp_path), loras=(LoraUse(file),)), tmp_path / "jobs")()
    assert isinstance(end, JobFailed)
    assert not (tmp_path / "jobs").exists()
    assert end.details["file"] == str(file)
    assert "blocks.0.ffn.0.weight" in str(end.details["reason"])


def test_parts_from_other_folders(model: Path, tmp_path: Path) -> None:
    """A transformer alone, and the rest from where another program keeps it; decoding needs the VAE alone."""
    wanted = pixels_of(tiny_command(model, tmp_path / "whole"))
    kept = {}
    for name in (ENCODER_FILE, VAE_FILE, "spiece.model", "Wan2.1_VAE.json"):
        kept[name] = tmp_path / "others" / name
        kept[name].parent.mkdir(exist_ok=True)
        (model / name).rename(kept[name])
    parts = ModelParts(vae=kept[VAE_FILE], text_encoder=kept[ENCODER_FILE], tokenizer=kept["spiece.model"])
    command = dataclasses.replace(tiny_command(model / TRANSFORMER_FILE, tmp_path / "parts"), parts=parts)
    run = Run(command, tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    assert np.array_equal(run.canvas.pixels, wanted)
    latents = next(event.path for event in run.events if isinstance(event, LatentsSaved))
    again = Run(DecodeLatents(latents, tmp_path / "again.mp4"), tmp_path / "jobs")  # the command beside them says how
    assert isinstance(again(), JobFinished)
    assert np.array_equal(again.canvas.pixels, wanted)
    other = tmp_path / "other" / VAE_FILE
    other.parent.mkdir()
    save_file({name: tensor * 0.5 for name, tensor in load_file(kept[VAE_FILE]).items()}, other)
    shutil.copy(kept["Wan2.1_VAE.json"], other.with_suffix(".json"))
    with_other = DecodeLatents(latents, tmp_path / "other.mp4", parts=ModelParts(vae=other))
    differs = Run(with_other, tmp_path / "jobs")
    assert isinstance(differs(), JobFinished)
    assert not np.array_equal(differs.canvas.pixels, wanted)
    alone = latents.rename(tmp_path / latents.name)
    decoded = Run(DecodeLatents(alone, tmp_path / "decoded.mp4", kept[VAE_FILE]), tmp_path / "jobs")
    assert isinstance(decoded(), JobFinished)
    assert np.array_equal(decoded.canvas.pixels, wanted)


def test_loading_tells_how_far_it_is_and_can_be_broken_off(model: Path) -> None:
    files = find_model(model)
    seen: list[tuple[int, int]] = []
    load_transformer(files, CPU, torch.float32, lambda done, total: seen.append((done, total)))
    size = sum(info.byte_count for info in read_header(model / TRANSFORMER_FILE).values())
    assert (seen[0], seen[-1]) == ((0, size), (size, size))
    assert sorted(seen) == seen
    for stop in (1, len(seen) // 2, len(seen)):
        left = [stop]

        def count(*_: int, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Cancelled

        with pytest.raises(Cancelled):
            load_transformer(files, CPU, torch.float32, count)


def test_a_weight_that_is_no_number_is_named(model: Path) -> None:
    state = load_file(model / TRANSFORMER_FILE)
    state["blocks.1.ffn.2.weight"][3, 5] = float("nan")
    save_file(state, model / TRANSFORMER_FILE)
    with pytest.raises(EngineError, match=r"blocks\.1\.ffn\.2\.weight: not all of its values are finite"):
        load_transformer(find_model(model), CPU, torch.float32)
    shards = [model / f"split-0000{i}-of-00002.safetensors" for i in (1, 2)]
    inner = [name for name in state if name.startswith("blocks.1.")]
    save_file({name: tensor for name, tensor in state.items() if name not in inner}, shards[0])
    save_file({name: state[name] for name in inner}, shards[1])
    (model / TRANSFORMER_FILE).unlink()
    with pytest.raises(EngineError, match=str(shards[1])):
        load_transformer(find_model(model), CPU, torch.float32)


LOAD_AND_WATCH = """
import sys
from pathlib import Path
import torch
from engine.weights.detect import find_model
from engine.weights.header import read_header
from engine.weights.load import load_transformer

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

seen = []
before = anonymous()
files = find_model(Path(sys.argv[1]))
model = load_transformer(files, torch.device("cpu"), torch.bfloat16, lambda *_: seen.append(anonymous()))
held = sum(tensor.nbytes for tensor in model.state_dict().values())
print(max(*seen, anonymous()) - before - held, max(tensor.nbytes for tensor in model.state_dict().values()))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_no_memory_beside_what_is_loaded(tmp_path: Path) -> None:
    """A transformer of 0.4 billion parameters in float32, loaded in bfloat16: most of it would be read at once."""
    wide = dataclasses.replace(TRANSFORMER, dim=1024, ffn_dim=8192, num_heads=8, num_layers=16)
    model = build_tiny_model(tmp_path / "wide", wide)
    done = subprocess.run(
        [sys.executable, "-c", LOAD_AND_WATCH, str(model)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    beside, largest = map(int, done.stdout.split())
    assert beside <= largest + 200e6
