"""What was encoded before is not encoded again: no encoder is loaded for it, and the result is the same to the bit."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

import engine.conditions
from engine.commands import GenerateVideo
from engine.conditions import EMBEDDINGS
from engine.errors import ErrorCode
from engine.events import Stage, WeightsRead
from engine.generation import Given
from engine.model_choice import ModelParts
from tests.engine.job_run import Run, assert_failed
from tests.engine.road_models import build_embedded, embedded_config, with_pictures, write_clip
from tests.engine.road_run import embedded_command, finished, latents_in, save_scene


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return dataclasses.replace(embedded_command(tmp_path), steps=2, frames=5)


class Loaded(Exception):
    """An encoder was loaded that nobody needs."""


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def load(*_: object) -> None:
        raise Loaded

    monkeypatch.setattr(engine.conditions, name, load)


def assert_loads(command: GenerateVideo, folder: Path) -> None:
    end = assert_failed(Run(command, folder / "jobs")(), ErrorCode.UNEXPECTED)
    assert "Loaded" in str(end.details["reason"])


def test_a_prompt_is_encoded_once(command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = finished(command, tmp_path)
    refuse(monkeypatch, "load_swapped_text_encoder")
    second = finished(command, tmp_path)
    assert torch.equal(latents_in(second), latents_in(first))
    assert not any(isinstance(event, WeightsRead) and event.stage is Stage.TEXT for event in second.events)
    assert_loads(dataclasses.replace(command, prompt="a green star"), tmp_path)
    assert_loads(dataclasses.replace(command, negative_prompt="a green star"), tmp_path)
    finished(dataclasses.replace(command, negative_prompt="a green star", guidance=1.0), tmp_path)
    finished(dataclasses.replace(command, prompt="", negative_prompt=command.prompt), tmp_path)


def test_an_encoder_that_has_changed_is_asked_again(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_embedded(tmp_path / "model", embedded_config())
    command = dataclasses.replace(command, model=model)
    finished(command, tmp_path)
    refuse(monkeypatch, "load_swapped_text_encoder")
    finished(command, tmp_path)
    for name in ("models_t5_umt5.safetensors", "spiece.model"):
        os.utime(model / name, (1, 1))
        assert_loads(command, tmp_path)


def test_damaged_rows_are_encoded_anew(command: GenerateVideo, tmp_path: Path) -> None:
    first = latents_in(finished(command, tmp_path))
    kept = sorted((tmp_path / EMBEDDINGS).iterdir())
    assert len(kept) == 2
    for file in kept:
        content = bytearray(file.read_bytes())
        content[-1] ^= 0x10
        file.write_bytes(content)
    assert torch.equal(latents_in(finished(command, tmp_path)), first)


def test_a_picture_is_described_once(command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_embedded(tmp_path / "model", with_pictures(embedded_config(), 2))
    parts = ModelParts(image_encoder=write_clip(tmp_path / "clip.safetensors"))
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    save_scene(one)
    save_scene(two, 40)
    command = dataclasses.replace(command, model=model, parts=parts, given=Given(one, two))
    first = latents_in(finished(command, tmp_path))
    refuse(monkeypatch, "load_swapped_image_encoder")
    assert torch.equal(latents_in(finished(command, tmp_path)), first)
    turned = dataclasses.replace(command, given=Given(two, one))
    assert not torch.equal(latents_in(finished(turned, tmp_path)), first), "which is first matters"
    finished(dataclasses.replace(command, given=Given(one, one)), tmp_path)
    save_scene(two, 20)
    assert_loads(command, tmp_path)
