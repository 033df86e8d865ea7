"""Whole samples of the embedded model with and without the step cache: passes that are taken over, and what that costs.

Prompts are real ones: of random text nothing could be said of how much a step differs from the one before.
"""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.attention.attend import sdpa
from engine.commands import EMBEDDED_MODEL
from engine.conditions import padded
from engine.denoise.streaming import Denoiser
from engine.generation import Solver
from engine.models.rope import Grid
from engine.models.streamed_text_encoder import encode_texts
from engine.models.transformer import WanTransformer
from engine.presets import ModelDefaults, defaults_of
from engine.sampling.guidance import guided, seeded_noise
from engine.sampling.schedule import schedule_for
from engine.sampling.solvers import Past, step_of
from engine.sampling.step_cache import StepCache
from engine.weights.detect import ModelFiles, find_model
from engine.weights.load import load_tokenizer
from engine.weights.load_swapped import load_swapped_text_encoder
from tests.bench.decode_rounds import note
from tests.bench.generate_step import PASSES, apart
from tests.bench.generate_ways import CPU

PROMPT, SEED = "a red ball bouncing on a blue background", 3
SAMPLES = ((Solver.UNIPC, 20), (Solver.EULER, 20), (Solver.DPMPP_2M, 20), (Solver.LCM, 8))
OFF = 0.0


def measure_samples(network: WanTransformer, size: Grid, thresholds: list[float]) -> list[dict[str, Any]]:
    """Every solver at every threshold of the cache, each compared with the same solver without one."""
    texts = encoded(find_model(EMBEDDED_MODEL), (PROMPT, ""), network.config.text_len)
    found: list[dict[str, Any]] = []
    for solver, steps in SAMPLES:
        found.extend(samples_of(network, size, texts, solver, steps, thresholds))
    return found


def encoded(files: ModelFiles, prompts: tuple[str, ...], text_len: int) -> list[Tensor]:
    """The rows [1, text_len, K] of each prompt, float32."""
    ids = [load_tokenizer(files).encode(prompt, text_len) for prompt in prompts]
    loaded = load_swapped_text_encoder(files, CPU, torch.float32)
    with torch.no_grad():
        return [padded(rows, text_len) for rows in encode_texts(loaded.network, ids, loaded.swap.walk)]


def samples_of(
    network: WanTransformer, size: Grid, texts: list[Tensor], solver: Solver, steps: int, thresholds: list[float]
) -> Iterator[dict[str, Any]]:
    """The figures of one solver, without the cache first."""
    exact: tuple[Tensor, float] | None = None
    for threshold in (OFF, *thresholds):
        began = time.perf_counter()
        latents, reused = sampled(network, size, texts, solver, steps, threshold)
        seconds = time.perf_counter() - began
        note(f"{solver}, {steps} steps, cache {threshold}: {seconds:.1f} s, {reused} passes reused")
        exact = exact or (latents, seconds)
        off = apart(latents, exact[0])
        yield {
            "solver": solver.value,
            "steps": steps,
            "threshold": threshold,
            "seconds": seconds,
            "ratio": seconds / exact[1],
            "passes": PASSES * steps,
            "reused": reused,
            "largest_difference": off.largest,
            "relative_difference": off.relative,
        }


def sampled(
    network: WanTransformer, size: Grid, texts: list[Tensor], solver: Solver, steps: int, threshold: float
) -> tuple[Tensor, int]:
    """Latents [1, C, T, H, W] as a job samples them, and how many passes the cache took over."""
    defaults: ModelDefaults = defaults_of(EMBEDDED_MODEL)
    schedule, step = schedule_for(solver, steps, defaults.shift), step_of(solver, SEED)
    denoiser, cache = Denoiser(network, lambda: network.blocks, 1 << 30, sdpa), StepCache(threshold, steps)
    x, past = seeded_noise((1, network.config.out_dim, *size), SEED), Past()
    with torch.no_grad():
        for index in range(steps):
            time_now = torch.full((1,), schedule.timesteps[index])
            velocity_at = cache.of_step(index, x, partial(denoiser.velocity, x, time_now))
            velocity = guided(velocity_at, texts[0], texts[1], defaults.guidance)
            x, past = step(schedule, index, x, velocity, past)
    return x, cache.reused
