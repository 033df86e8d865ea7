"""Text to video through the whole engine on the embedded model, against one plain loop over the whole networks."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.cli import build_parser
from engine.cli_generate import generate_commands
from engine.commands import EMBEDDED_MODEL, DecodeLatents, GenerateVideo
from engine.generation import Solver
from engine.output.job_folder import LATENTS_FILE
from engine.sampling.schedule import Schedule, distilled_schedule, dpmpp_schedule, euler_schedule, unipc_schedule
from engine.sampling.solvers import Step, dpmpp_step, euler_step, lcm_step, unipc_step
from tests.engine.plain_road import PlainRoad, guidances, off, text_rows, whole_transformer
from tests.engine.road_models import TRANSFORMER_FILE, embedded_config
from tests.engine.road_run import embedded_command, embedded_vae, finished, job_folder_of, latents_in, shown
from tests.engine.video_reading import read_frames

SEED = 7
WAYS: dict[Solver, tuple[Callable[[int, float], Schedule], Step]] = {
    Solver.UNIPC: (unipc_schedule, unipc_step),
    Solver.EULER: (euler_schedule, euler_step),
    Solver.DPMPP_2M: (dpmpp_schedule, dpmpp_step),
    Solver.LCM: (euler_schedule, partial(lcm_step, seed=SEED)),
}


def plain_road(command: GenerateVideo, schedule: Schedule, step: Step) -> PlainRoad:
    config = embedded_config()
    network = whole_transformer(EMBEDDED_MODEL / TRANSFORMER_FILE, config)
    prompts = command.prompt, command.negative_prompt
    texts = text_rows(EMBEDDED_MODEL, config, prompts[0]), text_rows(EMBEDDED_MODEL, config, prompts[1])
    return PlainRoad([(1000, network)], texts, schedule, step, guidances(command))


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return dataclasses.replace(embedded_command(tmp_path), seed=SEED)


@pytest.mark.parametrize("solver", list(Solver))
def test_prompt_to_mp4_is_one_plain_loop(command: GenerateVideo, tmp_path: Path, solver: Solver) -> None:
    command = dataclasses.replace(command, solver=solver, negative_prompt="a green star")
    run = finished(command, tmp_path)
    found = latents_in(run)
    make_schedule, step = WAYS[solver]
    road = plain_road(command, make_schedule(command.steps, command.shift), step)
    expected = road.latents(tuple(found.shape), SEED)
    assert off(found, expected) < 1e-3
    with torch.no_grad():
        video = embedded_vae().decode(found)[0].clamp(-1, 1)
    pixels = ((video + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()
    assert np.abs(shown(run).astype(int) - pixels).max() <= 1
    mp4 = read_frames(command.output, command.width, command.height)
    assert np.abs(mp4.mean(-1) - pixels.mean(-1)).mean() < 3


def test_the_times_of_a_distilled_model(command: GenerateVideo, tmp_path: Path) -> None:
    times = (1000.0, 750.0, 500.0, 250.0)
    command = dataclasses.replace(command, solver=Solver.LCM, times=times, steps=20, guidance=1.0)
    run = finished(command, tmp_path)
    road = plain_road(command, distilled_schedule(times, command.shift), WAYS[Solver.LCM][1])
    assert off(latents_in(run), road.latents(tuple(latents_in(run).shape), SEED)) < 1e-3
    assert len(road.velocities) == 4


def test_a_still_is_a_video_of_one_frame(command: GenerateVideo, tmp_path: Path) -> None:
    still = dataclasses.replace(command, frames=1)
    run = finished(still, tmp_path)
    assert latents_in(run).shape[2] == 1
    assert shown(run).shape == read_frames(still.output, still.width, still.height).shape
    assert len(shown(run)) == 1
    road = plain_road(still, unipc_schedule(still.steps, still.shift), unipc_step)
    assert off(latents_in(run), road.latents(tuple(latents_in(run).shape), SEED)) < 1e-3


def test_odd_sizes_are_cut_also_when_their_latents_are_decoded_again(command: GenerateVideo, tmp_path: Path) -> None:
    """A job that was killed while it decoded is made whole from its latents: the size is part of what was asked."""
    cut = dataclasses.replace(command, width=70, height=42)
    run = finished(cut, tmp_path)
    whole = finished(dataclasses.replace(command, output=tmp_path / "whole.mp4"), tmp_path)
    assert torch.equal(latents_in(run), latents_in(whole))
    assert np.array_equal(shown(run), shown(whole)[:, :42, :70])
    mp4 = read_frames(cut.output, 70, 42)
    assert len(mp4) == cut.frames
    again = DecodeLatents(job_folder_of(run) / LATENTS_FILE, tmp_path / "again.mp4")
    second = finished(again, tmp_path)
    assert np.array_equal(shown(second), shown(run))
    assert np.array_equal(read_frames(again.output, 70, 42), mp4)


def test_a_batch_is_its_videos_one_by_one(tmp_path: Path) -> None:
    arguments = ["generate", "a red ball", "--size", "64x64", "--frames", "5", "--steps", "2", "--seed", "3"]
    parsed = build_parser().parse_args([*arguments, "--videos", "3", "-o", str(tmp_path / "clip.mp4")])
    commands = generate_commands(parsed)
    assert [command.seed for command in commands] == [3, 4, 5]
    assert len({command.output for command in commands}) == 3
    made = [latents_in(finished(command, tmp_path)) for command in commands]
    alone = finished(dataclasses.replace(commands[1], output=tmp_path / "alone.mp4"), tmp_path / "elsewhere")
    assert torch.equal(made[1], latents_in(alone))
    assert not torch.equal(made[0], made[1])
    assert all(command.output.exists() for command in commands)
