"""What makes a job fit and fast does not change what it makes: blocks that wait, pieces, both passes as one."""

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.commands import GenerateVideo
from engine.events import LoraMatched
from engine.generation import SamplingSettings
from engine.model_choice import LoraUse, WeightForm
from tests.engine.lora_cases import tensors_of
from tests.engine.plain_road import off
from tests.engine.road_run import embedded_command, finished, latents_in

BLOCKS = 6


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> LoraUse:
    """A change of every second block and of the path of the text."""
    tensors: dict[str, Tensor] = {}
    for layer, shape in (("self_attn.q", (192, 192)), ("ffn.2", (192, 768))):
        for block in range(0, BLOCKS, 2):
            tensors |= tensors_of("lora", f"blocks.{block}.{layer}", shape)
    tensors |= tensors_of("lora", "text_embedding.0", (192, 128))
    file = tmp_path_factory.mktemp("lora") / "style.safetensors"
    save_file(tensors, file)
    return LoraUse(file, 0.05)


def made(folder: Path, sampling: SamplingSettings | None = None, **more: object) -> Tensor:
    command = dataclasses.replace(embedded_command(folder), steps=3, sampling=sampling or SamplingSettings())
    return latents_in(finished(dataclasses.replace(command, **more), folder))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return made(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("resident", [0, 3, BLOCKS])
def test_blocks_that_wait_change_nothing(tmp_path: Path, plain: Tensor, resident: int) -> None:
    assert torch.equal(made(tmp_path, SamplingSettings(resident_blocks=resident)), plain)


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_pieces_change_roundings(tmp_path: Path, plain: Tensor, chunk: int) -> None:
    found = made(tmp_path, SamplingSettings(chunk_tokens=chunk))
    assert off(found, plain) < 1e-3
    assert torch.equal(found, made(tmp_path, SamplingSettings(chunk_tokens=chunk, resident_blocks=2)))


def test_both_passes_as_one_change_roundings(tmp_path: Path, plain: Tensor) -> None:
    joint = SamplingSettings(joint_guidance=True)
    assert off(made(tmp_path, joint), plain) < 1e-3
    swapped = dataclasses.replace(joint, resident_blocks=1, chunk_tokens=7)
    assert off(made(tmp_path, swapped), plain) < 1e-3


def test_a_step_cache_that_is_off_is_not_there(tmp_path: Path, plain: Tensor) -> None:
    assert torch.equal(made(tmp_path, SamplingSettings(step_cache=0.0)), plain)
    eager = made(tmp_path, SamplingSettings(step_cache=1.0), steps=8)
    assert off(eager, made(tmp_path, steps=8)) > 1e-3


@pytest.mark.parametrize("form", [WeightForm.FP8_SCALED, WeightForm.FP4_SCALED])
def test_weights_made_smaller_are_the_same_where_they_wait(tmp_path: Path, plain: Tensor, form: WeightForm) -> None:
    whole = made(tmp_path, weights=form)
    assert off(whole, plain) > 1e-3
    assert torch.equal(made(tmp_path, SamplingSettings(resident_blocks=0), weights=form), whole)


@pytest.mark.parametrize("form", [WeightForm.STORED, WeightForm.FP8_SCALED])
def test_a_lora_is_the_same_where_blocks_wait(tmp_path: Path, plain: Tensor, lora: LoraUse, form: WeightForm) -> None:
    whole = made(tmp_path, weights=form, loras=(lora,))
    assert off(whole, plain) > 0.01
    assert torch.equal(made(tmp_path, SamplingSettings(resident_blocks=1), weights=form, loras=(lora,)), whole)


def test_what_a_lora_changes_is_told(tmp_path: Path, lora: LoraUse) -> None:
    command: GenerateVideo = dataclasses.replace(embedded_command(tmp_path), steps=1, frames=1, loras=(lora,))
    run = finished(command, tmp_path)
    assert [event.changed for event in run.events if isinstance(event, LoraMatched)] == [7]
