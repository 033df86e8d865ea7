"""The preview decoder's file: found by its tensors, every value arrives, what does not fit is refused, nothing runs."""

import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import EngineError, ErrorCode
from engine.models.preview_decoder import PreviewDecoderConfig, TGrow
from engine.weights.preview import PreviewFile, find_preview_decoder, load_preview_decoder
from tests.engine.random_preview_decoder import CONFIGS, TINY, TINY_SUPER, random_decoder, store, with_encoder
from tests.engine.sparse_files import write_sparse

CPU = torch.device("cpu")
CHANNELS = TINY.latent_channels


def found(folder: Path) -> PreviewFile:
    file = find_preview_decoder(folder, CHANNELS)
    assert file is not None
    return file


def refusal(path: Path) -> str:
    """Why `path` is refused when it is looked for; the failure must name it."""
    with pytest.raises(EngineError) as caught:
        find_preview_decoder(path.parent, CHANNELS)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(path)
    return str(caught.value.details["reason"])


@pytest.mark.parametrize("name", ["taew2_1.pth", "taew2_1.safetensors", "vae_approx/deep/preview.pth", "p.safetensors"])
@pytest.mark.parametrize("config", [TINY, TINY_SUPER], ids=["plain", "super"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_value_arrives(tmp_path: Path, name: str, config: PreviewDecoderConfig, dtype: torch.dtype) -> None:
    stored = random_decoder(config)
    path = store(stored, tmp_path / name)
    file = found(tmp_path)
    assert file == PreviewFile(path, config)
    called: list[None] = []
    loaded = load_preview_decoder(file, CPU, dtype, lambda: called.append(None))
    assert loaded.state_dict().keys() == stored.state_dict().keys()
    assert len(called) == len(stored.state_dict())
    for key, tensor in stored.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor.to(dtype)), key
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("name", CONFIGS)
def test_sizes_of_the_published_files_are_read_from_their_tensors(tmp_path: Path, name: str) -> None:
    decoder = random_decoder(CONFIGS[name]).half()
    path = store(decoder, tmp_path / f"{name}.safetensors")
    assert find_preview_decoder(tmp_path, CONFIGS[name].latent_channels) == PreviewFile(path, CONFIGS[name])


def test_a_folder_without_one_has_none(tiny_model: Path) -> None:
    assert find_preview_decoder(tiny_model, CHANNELS) is None


def test_decoders_for_other_latents_are_passed_over(tmp_path: Path) -> None:
    store(random_decoder(TINY), tmp_path / "taehv.pth")
    store(random_decoder(TINY), tmp_path / "taecvx.safetensors")
    store(random_decoder(PreviewDecoderConfig(4, 1, (8, 8, 8, 4))), tmp_path / "taew2_2.safetensors")
    assert find_preview_decoder(tmp_path, CHANNELS) is None


def test_the_larger_of_several_is_taken(tmp_path: Path) -> None:
    store(random_decoder(TINY), tmp_path / "a.safetensors")
    best = store(random_decoder(TINY_SUPER), tmp_path / "b.safetensors")
    store(random_decoder(TINY_SUPER), tmp_path / "c.pth")
    assert found(tmp_path).path == best


def test_files_too_large_for_one_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "Wan2.1_VAE.pth").open("wb") as file:
        file.truncate(600 << 20)
    (tmp_path / "taew.pth").mkdir()
    assert find_preview_decoder(tmp_path, CHANNELS) is None


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_of_frames_stored_too_many_the_last_count(tmp_path: Path, suffix: str) -> None:
    decoder = random_decoder(TINY)
    tensors = with_encoder(decoder)
    grow = decoder.decoder[7]
    assert isinstance(grow, TGrow)
    name = "decoder.7.conv.weight"
    tensors[name] = torch.cat([torch.randn_like(tensors[name]), tensors[name]])
    write(tensors, tmp_path / f"taew2_1{suffix}")
    loaded = load_preview_decoder(found(tmp_path), CPU, torch.float32)
    assert torch.equal(loaded.state_dict()[name], grow.conv.weight)


def write(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save(tensors, path) if path.suffix == ".pth" else save_file(tensors, path)
    return path


Edit = Callable[[dict[str, Tensor]], object]
FAULTS: list[tuple[Edit, str]] = [
    (lambda t: t.pop("decoder.22.bias"), "missing: decoder.22.bias"),
    (lambda t: t.pop("decoder.14.weight"), "missing: decoder.14.weight"),
    (lambda t: t.update({"decoder.22.bias": torch.zeros(4)}), "wrong shape: decoder.22.bias [4] instead of [3]"),
    (lambda t: t.update({"decoder.3.skip.weight": torch.zeros(1)}), "unexpected: decoder.3.skip.weight"),
    (lambda t: t.update({"extra": torch.zeros(1)}), "unexpected: extra"),
    (lambda t: t.update({"decoder.7.conv.weight": torch.zeros(8, 16, 1, 1)}), "wrong shape: decoder.7.conv.weight"),
    (lambda t: t.update({"decoder.7.conv.weight": torch.zeros(())}), "wrong shape: decoder.7.conv.weight"),
    (lambda t: t.update({"decoder.1.weight": torch.zeros(16)}), "unexpected shapes"),
    (lambda t: t.update({"decoder.8.weight": torch.zeros(0, 1)}), "unexpected shapes"),
    (lambda t: t.update({"decoder.20.weight": t["decoder.20.weight"].to(torch.int8)}), "decoder.20.weight is "),
    (lambda t: t.pop("decoder.3.conv.4.weight"), "not a preview decoder"),
]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("edit", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_what_does_not_fit_is_named(tmp_path: Path, suffix: str, edit: Edit, reason: str) -> None:
    tensors = with_encoder(random_decoder(TINY))
    edit(tensors)
    assert reason in refusal(write(tensors, tmp_path / f"taew2_1{suffix}"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    path = store(random_decoder(TINY), tmp_path / f"taew2_1{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    assert refusal(path)


def test_a_file_that_changed_after_it_was_found_is_refused(tmp_path: Path) -> None:
    path = store(random_decoder(TINY), tmp_path / "taew2_1.safetensors")
    file = found(tmp_path)
    save_file(load_file(path) | {"decoder.22.bias": torch.zeros(12)}, path)
    with pytest.raises(EngineError, match="wrong shape"):
        load_preview_decoder(file, CPU, torch.float32)
    path.unlink()
    with pytest.raises(EngineError, match="model_invalid"):
        load_preview_decoder(file, CPU, torch.float32)


def test_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """A header may claim anything, if only the file is as long as it says."""
    tensors = {key: ("F32", tuple(tensor.shape)) for key, tensor in random_decoder(TINY).state_dict().items()}
    write_sparse(path := tmp_path / "taew2_1.safetensors", tensors | {"decoder.8.weight": ("F32", (2**15, 16, 3, 3))})
    assert "unexpected shapes" in refusal(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, suffix: str) -> None:
    tensors = with_encoder(random_decoder(TINY))
    tensors["decoder.14.weight"].view(-1)[-1] = math.nan
    write(tensors, tmp_path / f"taew2_1{suffix}")
    with pytest.raises(EngineError, match=r"decoder\.14\.weight: not all"):
        load_preview_decoder(found(tmp_path), CPU, torch.float32)


def test_values_in_another_byte_order_are_refused(tmp_path: Path) -> None:
    """Where torch, asked to read only the names, would end the process."""
    path = store(random_decoder(TINY), tmp_path / "taew2_1.pth")
    with zipfile.ZipFile(path) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in entries.items():
            target.writestr(name, b"big" if name.endswith("byteorder") else content)
    assert "byte order" in refusal(path)
    path.rename(path.with_name("other.pth"))
    assert find_preview_decoder(tmp_path, CHANNELS) is None


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path, legacy: bool) -> None:
    trap = tmp_path / "ran"
    content: dict[str, Any] = {**with_encoder(random_decoder(TINY)), "decoder.23": Hostile(trap)}
    path = tmp_path / "files" / "taew2_1.pth"
    path.parent.mkdir()
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    assert "may run code" in refusal(path)
    path.rename(path.with_name("other.pth"))
    assert find_preview_decoder(path.parent, CHANNELS) is None
    file = PreviewFile(path.with_name("other.pth"), TINY)
    with pytest.raises(EngineError, match="may run code"):
        load_preview_decoder(file, CPU, torch.float32)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "it holds a list"),
        ({"state_dict": {}}, "not a preview decoder"),
        ({3: torch.zeros(1)}, "3 is no name"),
        ("text", "it holds a str"),
        ({"decoder.1.weight": 1}, "a int, not a tensor"),
    ],
)
def test_pickles_of_other_things_are_no_decoders(tmp_path: Path, content: object, reason: str) -> None:
    path = tmp_path / "anything.pth"
    torch.save(content, path)
    assert find_preview_decoder(tmp_path, CHANNELS) is None
    assert reason in refusal(path.rename(path.with_name("TAEW2_1.pth")))
