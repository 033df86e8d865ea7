"""Guidance in two passes and in one, on a network that could tell them apart."""

import pytest
import torch
from torch import Tensor

from engine.models.transformer import WanTransformer
from engine.sampling.guidance import guided, seeded_noise
from tests.engine.tiny_model import TRANSFORMER


def test_guidance_extrapolates_and_skips_the_second_pass() -> None:
    asked: list[float] = []

    def velocity(text: Tensor) -> Tensor:
        asked.append(text.item())
        return text.to(torch.bfloat16) * 2

    positive, negative = torch.tensor(1.0), torch.tensor(0.5)
    assert guided(velocity, positive, negative, 3.0).item() == 1.0 + 3.0 * (2.0 - 1.0)
    assert asked == [1.0, 0.5]
    asked.clear()
    assert guided(velocity, positive, None, 1.0).item() == 2.0
    assert guided(velocity, positive, None, 1.0, jointly=True).item() == 2.0
    assert asked == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_pass_of_both_is_two_passes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = WanTransformer(TRANSFORMER).eval().requires_grad_(False)
    model.blocks.to(dtype)
    model.text_embedding.to(dtype)
    model.patch_embedding.to(dtype)
    x, text = seeded_noise((1, 8, 2, 8, 8), 1), seeded_noise((2, 16, 32), 2)
    batches: list[int] = []

    def velocity(text: Tensor) -> Tensor:
        batches.append(len(text))
        return model(x.expand(len(text), -1, -1, -1, -1), torch.full((len(text),), 700.0), text)

    apart = guided(velocity, text[:1], text[1:], 4.0)
    together = guided(velocity, text[:1], text[1:], 4.0, jointly=True)
    assert batches == [1, 1, 2]
    assert together.shape == apart.shape == x.shape
    assert together.dtype == torch.float32
    assert ((together - apart).norm() / apart.norm()).item() < (1e-5 if dtype == torch.float32 else 2e-2)
    assert (velocity(text)[0] - velocity(text)[1]).norm() > 0.01 * apart.norm()  # so the texts were told apart
