"""Videos from pictures and clips through the whole engine, against one plain loop over the whole networks."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import engine.recipes
from engine.commands import DecodeLatents, GenerateVideo
from engine.errors import ErrorCode
from engine.events import JobStarted, Stage
from engine.generation import Given, Solver
from engine.model_choice import ModelParts
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import VideoVae22
from engine.output.job_folder import LATENTS_FILE
from engine.sampling.conditioning import Conditioning
from engine.sampling.schedule import dpmpp_schedule, euler_schedule, started_at, unipc_schedule
from engine.sampling.solvers import dpmpp_step, euler_step, unipc_step
from tests.engine.job_run import Run, assert_failed
from tests.engine.plain_road import (
    PlainRoad,
    channels_of,
    clip_rows,
    guidances,
    off,
    text_rows,
    whole_transformer,
    whole_vae,
)
from tests.engine.road_models import (
    CLIP,
    TRANSFORMER_FILE,
    VAE_22,
    build_embedded,
    build_ti2v_22,
    embedded_config,
    with_pictures,
    write_clip,
)
from tests.engine.road_run import (
    as_rgb,
    embedded_command,
    embedded_vae,
    finished,
    job_folder_of,
    latents_in,
    save_scene,
    shown,
)
from tests.engine.tiny_model import TRANSFORMER
from tests.engine.video_reading import read_frames


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return embedded_command(tmp_path)


@pytest.fixture
def conditionings(monkeypatch: pytest.MonkeyPatch) -> list[Conditioning]:
    """What was given to the sampling of each job."""
    found: list[Conditioning] = []
    read = engine.recipes.read_pictures

    def listened(*arguments: Any) -> Conditioning:  # noqa: ANN401
        found.append(read(*arguments))
        return found[-1]

    monkeypatch.setattr(engine.recipes, "read_pictures", listened)
    return found


def plain(command: GenerateVideo, **given: Any) -> PlainRoad:  # noqa: ANN401
    config = given.pop("config", embedded_config())
    network = whole_transformer(command.model / TRANSFORMER_FILE, config)
    texts = (
        text_rows(command.model, config, command.prompt),
        text_rows(command.model, config, command.negative_prompt),
    )
    schedule = unipc_schedule(command.steps, command.shift)
    return PlainRoad([(1000, network)], texts, schedule, unipc_step, guidances(command), **given)


def levels(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def there(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((found.astype(float) - expected.astype(float)) ** 2)))


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
    assert off(latents, plain(made, known=known).latents(tuple(latents.shape), made.seed)) < 1e-3
    started = next(event for event in run.events if isinstance(event, JobStarted))
    assert started.stages == (Stage.TEXT, Stage.IMAGE, Stage.SAMPLE, Stage.DECODE, Stage.ENCODE)


@pytest.mark.parametrize("size", [(96, 64), (70, 42)])
def test_a_clip_is_gone_on_with(
    command: GenerateVideo, tmp_path: Path, conditionings: list[Conditioning], size: tuple[int, int]
) -> None:
    width, height = size
    sized = dataclasses.replace(command, width=width, height=height)
    finished(sized, tmp_path)
    old = read_frames(command.output, width, height)
    longer = dataclasses.replace(sized, given=Given(extend=command.output), frames=13, output=tmp_path / "longer.mp4")
    run = finished(longer, tmp_path)
    assert torch.equal(latents_in(run)[:, :, :3], there(conditionings[-1].known))
    new = read_frames(longer.output, width, height)
    assert len(new) == 9 + 13 - 9
    assert np.abs(new[:9].astype(int) - old).mean() < 2  # encoded once more
    assert np.abs(new[9:].astype(int) - shown(run)[9:]).mean() < 4
    assert decibels(shown(run)[8], old[8]) > 25  # what is new goes on from what is old
    again = finished(DecodeLatents(job_folder_of(run) / LATENTS_FILE, tmp_path / "again.mp4"), tmp_path)
    assert np.array_equal(shown(again), shown(run))
    assert np.array_equal(read_frames(tmp_path / "again.mp4", width, height), new)


def test_of_a_longer_clip_only_the_end_is_gone_on_with(
    command: GenerateVideo, tmp_path: Path, conditionings: list[Conditioning]
) -> None:
    """Twice: 9 frames, then 17, then 25; what is gone on with is in the video once."""
    finished(command, tmp_path)
    before, counts = command.output, []
    for number in range(2):
        output = tmp_path / f"{number}.mp4"
        finished(dataclasses.replace(command, given=Given(extend=before), frames=17, output=output), tmp_path)
        counts.append(len(read_frames(output, 96, 64)))
        before = output
    assert counts == [17, 25]
    assert [there(each.known).shape[2] for each in conditionings[1:]] == [3, 3]
    first, second = (read_frames(tmp_path / f"{number}.mp4", 96, 64).astype(int) for number in range(2))
    assert np.abs(second[:17] - first).mean() < 2


def test_latents_without_the_clip_that_was_gone_on_with_are_decoded_alone(
    command: GenerateVideo, tmp_path: Path
) -> None:
    finished(command, tmp_path)
    longer = dataclasses.replace(command, given=Given(extend=command.output), frames=13, output=tmp_path / "longer.mp4")
    latents = job_folder_of(finished(longer, tmp_path)) / LATENTS_FILE
    command.output.unlink()
    finished(DecodeLatents(latents, tmp_path / "alone.mp4"), tmp_path)
    assert len(read_frames(tmp_path / "alone.mp4", 96, 64)) == 13


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return finished(dataclasses.replace(embedded_command(folder), steps=8, seed=4), folder).command.output


def test_little_noise_changes_a_clip_little(
    command: GenerateVideo, clip: Path, tmp_path: Path, conditionings: list[Conditioning]
) -> None:
    """The less strength, the nearer; and a prompt of another thing changes what is noised enough."""
    asked = dataclasses.replace(command, prompt="a green star falling on a black background", steps=50, shift=1.0)
    far = []
    for strength in (0.02, 0.4, 0.95):
        made = dataclasses.replace(
            asked, given=Given(restyle=clip, strength=strength), steps=50 if strength < 0.5 else 8
        )
        start_off = latents_in(finished(made, tmp_path)) - there(conditionings[-1].start)
        far.append(float(start_off.std() / there(conditionings[-1].start).std()))
    assert far == sorted(far)
    assert far[0] < 0.1
    assert far[2] > 0.5


@pytest.mark.parametrize("solver", list(Solver))
def test_full_strength_is_text_alone_to_the_bit(
    command: GenerateVideo, clip: Path, tmp_path: Path, solver: Solver
) -> None:
    text = dataclasses.replace(command, solver=solver, steps=2)
    given = Given(restyle=clip, strength=1.0)
    found = latents_in(finished(dataclasses.replace(text, given=given), tmp_path))
    assert torch.equal(found, latents_in(finished(text, tmp_path)))


@pytest.mark.parametrize(
    ("solver", "make", "step"),
    [(Solver.UNIPC, unipc_schedule, unipc_step), (Solver.DPMPP_2M, dpmpp_schedule, dpmpp_step),
     (Solver.EULER, euler_schedule, euler_step)],
)  # fmt: skip
def test_half_strength_begins_in_the_middle(
    command: GenerateVideo,
    clip: Path,
    tmp_path: Path,
    conditionings: list[Conditioning],
    solver: Solver,
    make: Any,
    step: Any,
) -> None:
    made = dataclasses.replace(command, solver=solver, steps=8, given=Given(restyle=clip, strength=0.8))
    run = finished(made, tmp_path)
    frames = torch.stack([levels(frame) for frame in read_frames(clip, 96, 64)], 1)[None]
    with torch.no_grad():
        start = embedded_vae().encode(frames)
    assert off(there(conditionings[0].start), start) < 0.2  # these frames are from a less careful reader
    start = there(conditionings[0].start)
    road = plain(made, start=start)
    road.schedule, road.step = started_at(make(8, made.shift), 0.8), step
    assert 0 < road.schedule.steps < 8
    road.guidances = [made.guidance] * road.schedule.steps
    assert off(latents_in(run), road.latents(tuple(start.shape), made.seed)) < 1e-3


def test_a_clip_made_anew_can_begin_with_a_picture(
    command: GenerateVideo, clip: Path, tmp_path: Path, conditionings: list[Conditioning]
) -> None:
    save_scene(tmp_path / "first.png")
    given = Given(first=tmp_path / "first.png", restyle=clip, strength=0.8)
    found = latents_in(finished(dataclasses.replace(command, given=given), tmp_path))
    made = conditionings[0]
    road = plain(command, start=made.start, known=made.known)
    road.schedule = started_at(road.schedule, 0.8)
    road.guidances = [command.guidance] * road.schedule.steps
    assert off(found, road.latents(tuple(found.shape), command.seed)) < 1e-3


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
    road = plain(
        made,
        config=config,
        channels=channels_of(embedded_vae(), first, last if has_last else None, command.frames),
        image=clip_rows(tmp_path / "clip.safetensors", CLIP, shown_to_clip) if images else None,
    )
    expected = road.latents(tuple(found.shape), command.seed)
    assert off(found, expected) < 2e-3
    road.image, seen = (None if images else road.image), road.channels
    road.channels = seen if images else torch.zeros_like(there(seen))
    assert off(road.latents(tuple(found.shape), command.seed), expected) > 0.05, "what is given matters"


def test_a_model_of_pictures_goes_on_with_a_clip(
    command: GenerateVideo, tmp_path: Path, conditionings: list[Conditioning]
) -> None:
    finished(command, tmp_path)
    old = read_frames(command.output, 96, 64)
    config = with_pictures(embedded_config())
    model = build_embedded(tmp_path / "model", config)
    given, output = Given(extend=command.output), tmp_path / "longer.mp4"
    made = dataclasses.replace(command, model=model, given=given, frames=13, output=output)
    found = latents_in(finished(made, tmp_path))
    assert len(read_frames(output, 96, 64)) == 13
    video = torch.cat([torch.stack([levels(frame) for frame in old], 1), torch.zeros(3, 4, 64, 96)], 1)[None]
    with torch.no_grad():
        latents = embedded_vae().encode(video)
    mask = torch.zeros(1, 4, *latents.shape[2:])
    mask[:, :, :3] = 1
    channels = there(conditionings[-1].channels)
    assert torch.equal(channels[:, :4], mask)
    assert off(channels[:, 4:], latents) < 0.2  # these frames are from a less careful reader
    assert off(found, plain(made, config=config, channels=channels).latents(tuple(found.shape), command.seed)) < 2e-3


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
    assert off(found, plain(made, config=config, known=known).latents(tuple(found.shape), made.seed)) < 1e-3
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
