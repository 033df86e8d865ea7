"""Videos from pictures through the whole engine, against one plain loop over the whole networks."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.commands import GenerateVideo
from engine.errors import ErrorCode
from engine.events import JobStarted, Stage
from engine.generation import Given
from engine.model_choice import ModelParts
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import VideoVae22
from engine.sampling.conditioning import Conditioning
from tests.engine.job_run import Run, assert_failed
from tests.engine.plain_road import channels_of, clip_rows, off, plain_road, whole_vae
from tests.engine.road_models import (
    CLIP,
    VAE_22,
    build_embedded,
    build_ti2v_22,
    embedded_config,
    with_pictures,
    write_clip,
)
from tests.engine.road_run import (
    as_rgb,
    decibels,
    embedded_command,
    embedded_vae,
    finished,
    heard_conditionings,
    latents_in,
    levels,
    save_scene,
    shown,
    there,
)
from tests.engine.tiny_model import TRANSFORMER
from tests.engine.video_reading import read_frames


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return embedded_command(tmp_path)


@pytest.fixture
def conditionings(monkeypatch: pytest.MonkeyPatch) -> list[Conditioning]:
    return heard_conditionings(monkeypatch)


def test_the_first_picture_is_the_first_frame(
    command: GenerateVideo, tmp_path: Path, conditionings: list[Conditioning]
) -> None:
    picture = save_scene(tmp_path / "first.png")
    made = dataclasses.replace(command, given=Given(first=tmp_path / "first.png"))
    run = finished(made, tmp_path)
    latents, known = latents_in(run), there(conditionings[0].known)
    assert torch.equal(latents[:, :, :1], known)
    vae = embedded_vae()
    with torch.no_grad():
        encoded = vae.encode(levels(picture)[None, :, None])
        assert off(known, encoded) < 1e-3
        assert np.abs(shown(run)[0].astype(int) - as_rgb(vae.decode(encoded))[0]).max() <= 1
    assert decibels(shown(run)[0], picture) > 27
    assert decibels(read_frames(made.output, 96, 64)[0], picture) > 25
    assert (
        off(latents, plain_road(made, embedded_config(), known=known).latents(tuple(latents.shape), made.seed)) < 1e-3
    )
    started = next(event for event in run.events if isinstance(event, JobStarted))
    assert started.stages == (Stage.TEXT, Stage.IMAGE, Stage.SAMPLE, Stage.DECODE, Stage.ENCODE)


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("has_last", [False, True])
def test_pictures_as_channels_and_as_clip_sees_them(
    command: GenerateVideo, tmp_path: Path, images: int, *, has_last: bool
) -> None:
    if has_last != (images == 2) and images:
        pytest.skip("another model")
    config = with_pictures(embedded_config(), images)
    model = build_embedded(tmp_path / "model", config)
    parts = ModelParts(image_encoder=write_clip(tmp_path / "clip.safetensors") if images else None)
    pictures = [save_scene(tmp_path / "first.png"), save_scene(tmp_path / "last.png", 40)]
    given = Given(tmp_path / "first.png", tmp_path / "last.png" if has_last else None)
    made = dataclasses.replace(command, model=model, parts=parts, given=given)
    found = latents_in(finished(made, tmp_path))
    first, last = map(levels, pictures)
    shown_to_clip = [first, last][: images if images else 0]
    road = plain_road(
        made,
        config,
        channels=channels_of(embedded_vae(), first, last if has_last else None, command.frames),
        image=clip_rows(tmp_path / "clip.safetensors", CLIP, shown_to_clip) if images else None,
    )
    expected = road.latents(tuple(found.shape), command.seed)
    assert off(found, expected) < 2e-3
    road.image, seen = (None if images else road.image), road.channels
    road.channels = seen if images else torch.zeros_like(there(seen))
    assert off(road.latents(tuple(found.shape), command.seed), expected) > 0.05, "what is given matters"


def test_columns_of_zeros_are_the_embedded_model_itself(command: GenerateVideo, tmp_path: Path) -> None:
    model = build_embedded(tmp_path / "model", with_pictures(embedded_config()), scale=0)
    save_scene(tmp_path / "first.png")
    given = dataclasses.replace(command, model=model, given=Given(tmp_path / "first.png"))
    assert off(latents_in(finished(given, tmp_path)), latents_in(finished(command, tmp_path))) < 1e-3


@pytest.mark.parametrize("has_picture", [False, True])
def test_a_model_of_text_and_picture_with_the_newer_vae(
    command: GenerateVideo, tmp_path: Path, conditionings: list[Conditioning], *, has_picture: bool
) -> None:
    model = build_ti2v_22(tmp_path / "model")
    picture = save_scene(tmp_path / "first.png")
    given = Given(tmp_path / "first.png") if has_picture else Given()
    made = dataclasses.replace(command, model=model, given=given, prompt="a red ball")
    run = finished(made, tmp_path)
    found = latents_in(run)
    assert found.shape == (1, 48, 3, 4, 6)
    config = dataclasses.replace(TRANSFORMER, in_dim=48, out_dim=48, model_type="ti2v")
    vae: VideoVae = whole_vae(model / "Wan2.2_VAE.safetensors", VAE_22, VideoVae22)
    with torch.no_grad():
        known = vae.encode(levels(picture)[None, :, None]) if has_picture else None
    assert off(found, plain_road(made, config, known=known).latents(tuple(found.shape), made.seed)) < 1e-3
    if has_picture:
        assert torch.equal(found[:, :, :1], there(conditionings[0].known))
    with torch.no_grad():
        assert np.abs(shown(run).astype(int) - as_rgb(vae.decode(found))).max() <= 1


def test_a_branch_that_sees_is_never_left_without_what_it_sees(command: GenerateVideo, tmp_path: Path) -> None:
    """Without the file that describes pictures such a model would make other videos, and say nothing."""
    model = build_embedded(tmp_path / "model", with_pictures(embedded_config(), 1))
    save_scene(tmp_path / "first.png")
    made = dataclasses.replace(command, model=model, given=Given(tmp_path / "first.png"))
    end = assert_failed(Run(made, tmp_path / "jobs")(), ErrorCode.MODEL_NOT_FOUND)
    assert "clip" in str(end.details["missing"])
    assert not (tmp_path / "jobs").exists()


def test_a_still_has_no_last_picture_beside_its_first(command: GenerateVideo, tmp_path: Path) -> None:
    model = build_embedded(tmp_path / "model", with_pictures(embedded_config()))
    save_scene(tmp_path / "one.png")
    given = Given(tmp_path / "one.png", tmp_path / "one.png")
    run = Run(dataclasses.replace(command, model=model, given=given, frames=1), tmp_path / "jobs")
    end = assert_failed(run(), ErrorCode.INVALID_SETTING)
    assert (end.details["name"], len(run.events)) == ("frames", 1)
