"""Where a sample starts and what steers it: seeded noise and classifier-free guidance."""

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor], Tensor]
"""From text embeddings [1, L, C] to the predicted velocity of the current latents."""


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal float32 noise of `shape`, drawn on the CPU so that a seed means the same on every device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def guided(velocity: Velocity, text: Tensor, negative: Tensor | None, guidance: float) -> Tensor:
    """u + g * (c - u) in float32; without `negative` the unconditional pass is not run at all."""
    conditional = velocity(text).float()
    if negative is None:
        return conditional
    unconditional = velocity(negative).float()
    return unconditional + guidance * (conditional - unconditional)
