"""Clips gone on with and made anew through the whole engine, against one plain loop over the whole networks."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.commands import DecodeLatents, GenerateVideo
from engine.generation import Given, Solver
from engine.output.job_folder import LATENTS_FILE
from engine.sampling.conditioning import Conditioning
from engine.sampling.schedule import Schedule, dpmpp_schedule, euler_schedule, started_at, unipc_schedule
from engine.sampling.solvers import Step, dpmpp_step, euler_step, unipc_step
from tests.engine.plain_road import off, plain_road
from tests.engine.road_models import (
    build_embedded,
    embedded_config,
    with_pictures,
)
from tests.engine.road_run import (
    decibels,
    embedded_command,
    embedded_vae,
    finished,
    heard_conditionings,
    job_folder_of,
    latents_in,
    levels,
    save_scene,
    shown,
    there,
)
from tests.engine.video_reading import read_frames

WAYS: dict[Solver, tuple[Callable[[int, float], Schedule], Step]] = {
    Solver.UNIPC: (unipc_schedule, unipc_step),
    Solver.DPMPP_2M: (dpmpp_schedule, dpmpp_step),
    Solver.EULER: (euler_schedule, euler_step),
}


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return embedded_command(tmp_path)


@pytest.fixture
def conditionings(monkeypatch: pytest.MonkeyPatch) -> list[Conditioning]:
    return heard_conditionings(monkeypatch)


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


@pytest.mark.slow
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


def test_latents_are_decoded_behind_their_clip_where_the_model_has_moved(
    command: GenerateVideo, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(command.model, tmp_path / "model"))
    finished(command, tmp_path)
    given, output = Given(extend=command.output), tmp_path / "longer.mp4"
    longer = dataclasses.replace(command, model=model, given=given, frames=13, output=output)
    latents = job_folder_of(finished(longer, tmp_path)) / LATENTS_FILE
    moved = model.rename(tmp_path / "moved")
    finished(DecodeLatents(latents, tmp_path / "again.mp4", moved), tmp_path)
    assert np.array_equal(read_frames(tmp_path / "again.mp4", 96, 64), read_frames(output, 96, 64))
    (moved / "diffusion_pytorch_model.safetensors").unlink()  # nothing but the VAE is needed
    finished(DecodeLatents(latents, tmp_path / "once_more.mp4", moved), tmp_path)
    assert len(read_frames(tmp_path / "once_more.mp4", 96, 64)) == len(read_frames(output, 96, 64))


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
    assert off(found, plain_road(made, config, channels=channels).latents(tuple(found.shape), command.seed)) < 2e-3


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
        steps = 50 if strength < 0.5 else 8
        made = dataclasses.replace(asked, given=Given(restyle=clip, strength=strength), steps=steps)
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


@pytest.mark.parametrize("solver", WAYS)
def test_half_strength_begins_in_the_middle(
    command: GenerateVideo, clip: Path, tmp_path: Path, conditionings: list[Conditioning], solver: Solver
) -> None:
    make, step = WAYS[solver]
    made = dataclasses.replace(command, solver=solver, steps=8, given=Given(restyle=clip, strength=0.8))
    run = finished(made, tmp_path)
    frames = torch.stack([levels(frame) for frame in read_frames(clip, 96, 64)], 1)[None]
    with torch.no_grad():
        start = embedded_vae().encode(frames)
    assert off(there(conditionings[0].start), start) < 0.2  # these frames are from a less careful reader
    start = there(conditionings[0].start)
    road = plain_road(made, embedded_config(), start=start)
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
    road = plain_road(command, embedded_config(), start=made.start, known=made.known)
    road.schedule = started_at(road.schedule, 0.8)
    road.guidances = [command.guidance] * road.schedule.steps
    assert off(found, road.latents(tuple(found.shape), command.seed)) < 1e-3
