"""Passes that are taken over from the step before: never with threshold 0, and else few, counted and harmless."""

import dataclasses
from functools import partial

import pytest
import torch
from torch import Tensor

from engine.commands import EMBEDDED_MODEL
from engine.generation import Solver
from engine.models.transformer import WanTransformer
from engine.sampling.guidance import guided, seeded_noise
from engine.sampling.schedule import schedule_for
from engine.sampling.solvers import Past, step_of
from engine.sampling.step_cache import KeptPass, StepCache
from engine.weights.detect import find_model
from engine.weights.load import load_text_encoder, load_tokenizer, load_transformer
from tests.engine.attention_rounding import relative_rms

CPU, STEPS = torch.device("cpu"), 20


class Sampled:
    """A walk of the embedded model under a cache, which passes were computed, and the state after every step."""

    def __init__(self, model: WanTransformer, texts: tuple[Tensor, Tensor | None], threshold: float) -> None:
        self.computed: list[int] = []
        self.states: list[tuple[Tensor, Past, tuple[KeptPass, ...]]] = []
        self._model, self._texts, self._threshold = model, texts, threshold
        self.cache = StepCache(threshold, STEPS)
        self.latents = self.walk(0, seeded_noise((1, 8, 3, 32, 32), 3), Past())

    def walk(self, start: int, x: Tensor, past: Past, *, jointly: bool = False) -> Tensor:
        schedule = schedule_for(Solver.UNIPC, STEPS, 3.0)
        for index in range(start, STEPS):
            velocity_at = self.cache.of_step(index, x, partial(self.velocity, index, schedule.timesteps[index], x))
            velocity = guided(velocity_at, *self._texts, 4.0, jointly=jointly)
            x, past = step_of(Solver.UNIPC)(schedule, index, x, velocity, past)
            self.states.append((x, past, self.cache.kept))
        return x

    def gone_on(self, step: int) -> Tensor:
        """The latents of a walk taken up after `step` steps with nothing but what was kept."""
        x, past, kept = self.states[step - 1]
        self.cache = StepCache(self._threshold, STEPS, kept)
        return self.walk(step, x, past)

    def velocity(self, index: int, time: float, x: Tensor, text: Tensor) -> Tensor:
        self.computed.append(index)
        return self._model(x.expand(len(text), -1, -1, -1, -1), torch.full((len(text),), time), text)


@pytest.fixture(scope="module")
def model() -> WanTransformer:
    return load_transformer(find_model(EMBEDDED_MODEL), CPU, torch.float32)


@pytest.fixture(scope="module")
def texts() -> tuple[Tensor, Tensor]:
    files = find_model(EMBEDDED_MODEL)
    tokenizer, encoder = load_tokenizer(files), load_text_encoder(files, CPU, torch.float32)
    rows = []
    for prompt in ("a red ball bouncing on a blue background", ""):
        ids = torch.tensor([tokenizer.encode(prompt, 32)])
        encoded = encoder(ids, torch.ones_like(ids))
        rows.append(torch.nn.functional.pad(encoded, (0, 0, 0, 32 - encoded.shape[1])))
    return rows[0], rows[1]


@pytest.fixture(scope="module")
def plain(model: WanTransformer, texts: tuple[Tensor, Tensor]) -> Sampled:
    return Sampled(model, texts, 0.0)


def test_threshold_0_touches_nothing(plain: Sampled, model: WanTransformer, texts: tuple[Tensor, Tensor]) -> None:
    def velocity(text: Tensor) -> Tensor:
        return text

    assert StepCache(0.0, STEPS).of_step(5, torch.zeros(1), velocity) is velocity
    assert plain.cache.kept == ()
    assert plain.cache.reused == 0
    assert len(plain.computed) == 2 * STEPS
    schedule, x, past = schedule_for(Solver.UNIPC, STEPS, 3.0), seeded_noise((1, 8, 3, 32, 32), 3), Past()
    for index, time in enumerate(schedule.timesteps):
        positive, negative = (model(x, torch.tensor([time]), text) for text in texts)
        x, past = step_of(Solver.UNIPC)(schedule, index, x, negative + 4.0 * (positive - negative), past)
    assert torch.equal(x, plain.latents)


@pytest.mark.parametrize(("threshold", "fewest", "largest_error"), [(0.02, 6, 0.03), (0.05, 16, 0.06)])
def test_a_modest_threshold_saves_passes_and_changes_little(
    threshold: float, fewest: int, largest_error: float,
    plain: Sampled, model: WanTransformer, texts: tuple[Tensor, Tensor],
) -> None:  # fmt: skip
    cached = Sampled(model, texts, threshold)
    assert cached.cache.reused == 2 * STEPS - len(cached.computed) >= fewest
    assert 0 < relative_rms(cached.latents, plain.latents) < largest_error
    assert set(cached.computed) >= {0, 1, 2, STEPS - 1}
    assert all(cached.computed.count(index) == 2 for index in set(cached.computed))  # both passes or none


def test_a_threshold_that_nothing_reaches_changes_nothing(
    plain: Sampled, model: WanTransformer, texts: tuple[Tensor, Tensor]
) -> None:
    cached = Sampled(model, texts, 1e-9)
    assert torch.equal(cached.latents, plain.latents)
    assert len(cached.computed) == 2 * STEPS
    assert len(cached.cache.kept) == 2


def test_what_is_kept_is_enough_to_go_on_with(model: WanTransformer, texts: tuple[Tensor, Tensor]) -> None:
    whole = Sampled(model, texts, 0.05)
    computed = list(whole.computed)
    for step in (4, 7, 12):
        whole.computed.clear()
        assert torch.equal(whole.gone_on(step), whole.latents)
        assert whole.computed == [index for index in computed if index >= step]
    kinds = {type(value) for kept in whole.cache.kept for value in vars_of(kept)}
    assert kinds <= {Tensor, float, type(None)}


def vars_of(kept: KeptPass) -> list[object]:
    return [getattr(kept, field.name) for field in dataclasses.fields(kept)]


def test_without_guidance_there_is_one_pass(model: WanTransformer, texts: tuple[Tensor, Tensor]) -> None:
    cached = Sampled(model, (texts[0], None), 0.05)
    assert len(cached.cache.kept) == 1
    assert cached.cache.reused == STEPS - len(cached.computed) > 4


def test_both_passes_as_one_are_cached_as_one(model: WanTransformer, texts: tuple[Tensor, Tensor]) -> None:
    cached = Sampled(model, texts, 0.05)
    apart = cached.latents
    cached.cache, cached.computed = StepCache(0.05, STEPS), []
    together = cached.walk(0, seeded_noise((1, 8, 3, 32, 32), 3), Past(), jointly=True)
    assert len(cached.cache.kept) == 1
    assert cached.cache.reused == STEPS - len(cached.computed) > 4
    assert relative_rms(together, apart) < 0.06


def test_a_velocity_that_says_nothing_is_computed_again() -> None:
    """Of zeros no change is relative, and latents that stay where they are have no rate."""
    cache, calls = StepCache(0.5, STEPS), []

    def still(text: Tensor) -> Tensor:
        calls.append(1)
        return torch.zeros(1, 2)

    x = torch.ones(1, 2)
    for index in range(10):
        cache.of_step(index, x + (index // 2), still)(x)
    assert len(calls) == 10
    assert cache.reused == 0
