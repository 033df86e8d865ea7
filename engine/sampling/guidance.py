"""Where a sample starts and what steers it: seeded noise and classifier-free guidance.

B batch, T frames, C channels, H height, W width of the latents; S rows of text with K channels each.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor], Tensor]
"""From text embeddings [B, S, K] to the predicted velocity of the same latents under each, [B, C, T, H, W]."""


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal float32 noise of `shape`, drawn on the CPU so that a seed means the same on every device."""
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def guided(
    velocity: Velocity, text: Tensor, negative: Tensor | None, guidance: float, *, jointly: bool = False
) -> Tensor:
    """u + g * (c - u) in float32; without `negative` the unconditional pass is not run at all.

    text, negative: [1, S, K]. jointly: both passes as one of twice the batch, which a device of many processors does
    faster and which takes more memory; the results differ by rounding.
    """
    if negative is None:
        return velocity(text).float()
    if jointly:
        conditional, unconditional = velocity(torch.cat([text, negative])).float().chunk(2)
    else:
        conditional, unconditional = velocity(text).float(), velocity(negative).float()
    return unconditional + guidance * (conditional - unconditional)
