"""One step of sampling as every way of the benchmark takes it: what goes in, and how far two results are apart.

T frames of latents, C channels, H height, W width; S rows of text with K channels each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.rope import Grid
from engine.models.transformer import TransformerConfig
from engine.sampling.guidance import guided, seeded_noise
from engine.sampling.schedule import unipc_schedule
from engine.sampling.solvers import Past, unipc_step

SCHEDULE = unipc_schedule(20, 5.0)
STEP = 2  # the first at which UniPC's past is complete
GUIDANCE = 4.0
PASSES = 2  # of a step with guidance
SPATIAL, TEMPORAL = 8, 4  # pixels beside each other, and frames, of one latent of Wan 2.1

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A velocity of latents [1, C, T, H, W], a time [1] and a text [1, S, K]."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What a sampler holds before a step: latents [1, C, T, H, W], what UniPC remembers, both texts [1, S, K]."""

    x: Tensor
    past: Past
    text: Tensor
    negative: Tensor

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of it."""
        assert self.past.sample is not None
        return self.x, self.past.sample, *self.past.x0s, self.text, self.negative


@dataclass(frozen=True, slots=True)
class Apart:
    """How far a result is from another: at most, and on the root mean square of that other one's."""

    largest: float
    relative: float


def latent_size(pixels: tuple[int, int, int]) -> Grid:
    """Latent frames, rows and columns of (width, height, frames). Raises ValueError where that is not whole."""
    width, height, frames = pixels
    if width % SPATIAL or height % SPATIAL or (frames - 1) % TEMPORAL or min(pixels) < 1:
        raise ValueError(f"{width}x{height}x{frames}: sides are multiples of {SPATIAL}, frames {TEMPORAL}n+1")
    return (frames - 1) // TEMPORAL + 1, height // SPATIAL, width // SPATIAL


def inputs_of(config: TransformerConfig, size: Grid, dtype: torch.dtype, device: torch.device) -> Inputs:
    """The same random values on every machine; latents in float32, texts in `dtype`."""
    x, sample, older, newer = (seeded_noise((1, config.out_dim, *size), seed).to(device) for seed in range(4))
    rows = (1, config.text_len, config.text_dim)
    text, negative = (seeded_noise(rows, seed).to(device, dtype) for seed in (4, 5))
    return Inputs(x, Past(sample, (older, newer), 2), text, negative)


def take_step(predict: Predict, inputs: Inputs) -> Tensor:
    """One step with guidance and UniPC; the guided velocity [1, C, T, H, W] that it goes by."""
    time = torch.full((1,), SCHEDULE.timesteps[STEP], device=inputs.x.device)
    with torch.no_grad():
        found = guided(lambda text: predict(inputs.x, time, text), inputs.text, inputs.negative, GUIDANCE)
        unipc_step(SCHEDULE, STEP, inputs.x, found, inputs.past)
    return found


def apart(found: Tensor, other: Tensor) -> Apart:
    """How far `found` is from `other`, which is not zero everywhere."""
    off = found.double() - other.double()
    mean_square = off.square().mean() / other.double().square().mean()
    return Apart(off.abs().max().item(), mean_square.sqrt().item())
