"""Models of two transformers through the whole engine: who takes which step, by which guidance, to which result."""

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.commands import GenerateVideo
from engine.denoise.experts import Experts
from engine.errors import ErrorCode
from engine.generation import Given, SamplingSettings, Solver
from engine.memory.block_swap import BlockSwap
from engine.model_choice import ModelParts
from engine.models.transformer import TransformerConfig
from engine.sampling.schedule import Schedule, dpmpp_schedule, unipc_schedule
from engine.sampling.solvers import dpmpp_step, unipc_step
from engine.weights.provenance import Expert
from tests.engine.job_run import Run, assert_failed
from tests.engine.plain_road import PlainRoad, channels_of, off, text_rows, whole_transformer
from tests.engine.road_models import TRANSFORMER_FILE, build_embedded, build_experts, embedded_config, with_pictures
from tests.engine.road_run import embedded_command, embedded_vae, finished, latents_in, save_scene

TEXT = dataclasses.replace(embedded_config(), model_type="t2v")
PICTURES = with_pictures(embedded_config())
Models = dict[str, tuple[Path, Path]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("experts")
    return {"text": build_experts(folder / "t2v", TEXT), "pictures": build_experts(folder / "i2v", PICTURES)}


def command_for(models: Models, kind: str, folder: Path, **more: Any) -> GenerateVideo:  # noqa: ANN401
    model, low_noise = models[kind]
    command = dataclasses.replace(embedded_command(folder, model), steps=6, parts=ModelParts(low_noise=low_noise))
    return dataclasses.replace(command, **more)


def plain(
    command: GenerateVideo, config: TransformerConfig, switch: int, schedule: Schedule, channels: Tensor | None = None
) -> PlainRoad:
    low_noise = command.parts.low_noise
    assert low_noise is not None
    high = low_noise.parent.with_name("high_noise_model") / low_noise.name
    networks = [(switch, whole_transformer(high, config)), (1000, whole_transformer(low_noise, config))]
    prompts = (command.prompt, command.negative_prompt)
    first, second = (text_rows(command.model, config, prompt) for prompt in prompts)
    low = command.guidance if command.guidance_low is None else command.guidance_low
    guidances = [command.guidance if step < switch else low for step in range(schedule.steps)]
    step = unipc_step if command.solver is Solver.UNIPC else dpmpp_step
    return PlainRoad(networks, (first, second), schedule, step, guidances, channels)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Expert | None]]:
    """The steps at which a transformer was loaded, and which."""
    found: list[tuple[int, Expert | None]] = []
    at = Experts.at

    def listened(self: Experts, step: int) -> object:
        before = self._expert if self._loaded else "none"
        denoiser = at(self, step)
        if self._expert is not before:
            found.append((step, self._expert))
        return denoiser

    monkeypatch.setattr(Experts, "at", listened)
    return found


@pytest.mark.parametrize(
    ("boundary", "guidance_low", "solver"),
    [(0.9, None, Solver.UNIPC), (0.9, 1.0, Solver.UNIPC), (0.7, 2.5, Solver.UNIPC), (0.7, 2.5, Solver.DPMPP_2M)],
)
def test_two_experts_are_one_plain_loop(
    models: Models, tmp_path: Path, loaded: list[Any], boundary: float, guidance_low: float | None, solver: Solver
) -> None:
    command = command_for(models, "text", tmp_path, boundary=boundary, guidance_low=guidance_low, solver=solver)
    found = latents_in(finished(command, tmp_path))
    make = unipc_schedule if solver is Solver.UNIPC else dpmpp_schedule
    schedule = make(6, command.shift)
    switch = sum(time >= boundary * 1000 for time in schedule.timesteps)
    assert 0 < switch < 6
    expected = plain(command, TEXT, switch, schedule).latents(tuple(found.shape), command.seed)
    assert off(found, expected) < 2e-3
    assert loaded == [(0, Expert.HIGH_NOISE), (switch, Expert.LOW_NOISE)]
    other = plain(command, TEXT, switch + 1, schedule).latents(tuple(found.shape), command.seed)
    assert off(other, expected) > 0.05, "who takes a step matters"


@pytest.mark.parametrize(("boundary", "who"), [(0.0, Expert.HIGH_NOISE), (1.0, Expert.LOW_NOISE)])
def test_an_expert_without_a_step_is_not_loaded(
    models: Models, tmp_path: Path, loaded: list[Any], boundary: float, who: Expert
) -> None:
    command = command_for(models, "text", tmp_path, boundary=boundary, steps=2)
    finished(command, tmp_path)
    assert loaded == [(0, who)]


@pytest.mark.parametrize("has_last", [False, True])
def test_two_experts_of_pictures(models: Models, tmp_path: Path, *, has_last: bool) -> None:
    first, last = save_scene(tmp_path / "first.png"), save_scene(tmp_path / "last.png", 40)
    given = Given(tmp_path / "first.png", tmp_path / "last.png" if has_last else None)
    command = command_for(models, "pictures", tmp_path, given=given, boundary=0.8, guidance_low=2.0)
    found = latents_in(finished(command, tmp_path))
    pixels = [torch.from_numpy(picture).permute(2, 0, 1) / 127.5 - 1 for picture in (first, last)]
    channels = channels_of(embedded_vae(), pixels[0], pixels[1] if has_last else None, command.frames)
    schedule = unipc_schedule(6, command.shift)
    switch = sum(time >= 800 for time in schedule.timesteps)
    expected = plain(command, PICTURES, switch, schedule, channels).latents(tuple(found.shape), command.seed)
    assert off(found, expected) < 2e-3


def test_only_one_expert_is_held_at_a_time(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second is loaded, nothing holds a tensor of the first any more."""
    alive: list[list[int]] = []
    made: list[list[weakref.ref[Tensor]]] = []
    init = BlockSwap.__init__

    def listened(self: BlockSwap, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        gc.disable()  # only what is let go of, not what would be found some time
        alive.append([sum(ref() is not None for ref in refs) for refs in made])
        init(self, *arguments, **options)
        made.append([weakref.ref(p) for block in self._blocks for p in block.parameters()])

    monkeypatch.setattr(BlockSwap, "__init__", listened)
    sampling = SamplingSettings(resident_blocks=2)
    try:
        finished(command_for(models, "text", tmp_path, boundary=0.8, sampling=sampling), tmp_path)
    finally:
        gc.enable()
    assert len(made[-1]) > 50
    assert alive[-1][-1] == 0


def test_two_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """Before anything is loaded: the first would have worked for hours."""
    model = build_embedded(tmp_path / "model", TEXT)
    low_noise = build_embedded(tmp_path / "other", dataclasses.replace(TEXT, num_layers=3)) / TRANSFORMER_FILE
    command = dataclasses.replace(embedded_command(tmp_path, model), parts=ModelParts(low_noise=low_noise))
    run = Run(command, tmp_path / "jobs")
    end = assert_failed(run(), ErrorCode.MODEL_INVALID)
    assert (end.details["file"], len(run.events)) == (str(low_noise), 1)
