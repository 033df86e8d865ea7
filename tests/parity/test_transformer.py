"""The transformer against recorded outputs of the official code and against diffusers."""

import dataclasses

import pytest
import torch
from torch import Tensor

from engine.models.rope import rope_table, rotate
from engine.models.transformer import TransformerConfig, WanTransformer, sinusoid
from tests.parity.fill import filled
from tests.parity.official import VECTORS, assert_close, assert_recorded
from tests.parity.transformer_twin import COARSE, NARROW, TINY, diffusers_twin, filled_transformer, silent_parameters

LONG_PATCH = dataclasses.replace(NARROW, num_heads=3, patch_size=(2, 1, 3))


def tiny_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """The inputs that `dit_t2v` was recorded with: latents, timestep, five text rows padded to sixteen."""
    text = torch.zeros(1, 16, 64)
    text[0, :5] = filled("context", 5, 64)
    return filled("x", 1, 16, 3, 4, 6), torch.tensor([713.0]), text


@torch.no_grad()
def test_official_output() -> None:
    out = filled_transformer(TINY)(*tiny_inputs())
    assert_recorded(out[0], VECTORS["dit_t2v"]["out"])


def test_official_time_embedding() -> None:
    recorded = VECTORS["time_sinusoid_713"]
    values = sinusoid(torch.tensor([713]), 256)[0]
    for index, value in recorded.items():
        assert values[int(index)].item() == pytest.approx(value, abs=1e-7)


def test_official_rope() -> None:
    recorded = VECTORS["rope_128"]
    out = rotate(filled("q", 1, 192, 1, 128), rope_table((4, 6, 8), 128, torch.device("cpu")))
    assert_recorded(out, recorded["out"])
    token = out.view(4, 6, 8, 128)[3, 5, 7, recorded["token_3_5_7_dims"]]
    torch.testing.assert_close(token, torch.tensor(recorded["token_3_5_7"]), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (TINY, (2, 16, 2, 6, 4)),
        (NARROW, (1, 5, 1, 2, 2)),
        (NARROW, (3, 5, 5, 10, 2)),
        (COARSE, (2, 4, 3, 8, 12)),
        (LONG_PATCH, (1, 5, 4, 3, 6)),
    ],
)
def test_same_as_diffusers(config: TransformerConfig, shape: tuple[int, ...]) -> None:
    torch.manual_seed(sum(shape))
    model = filled_transformer(config)
    batch = shape[0]
    latents, timestep = torch.randn(shape), torch.rand(batch) * 1000
    text = torch.randn(batch, config.text_len, config.text_dim)
    expected = diffusers_twin(model)(latents, timestep, text, return_dict=False)[0]
    assert_close(model(latents, timestep, text), expected, 2e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_smaller_weights_stay_near(dtype: torch.dtype) -> None:
    """Products in half precision move the result by rounding only; what comes out is float32."""
    inputs = tiny_inputs()
    model = filled_transformer(TINY)
    exact = model(*inputs)
    rounded = model.to(dtype)(*inputs)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.06 * exact.std()


@torch.no_grad()
def test_time_and_head_stay_float32_under_autocast() -> None:
    model = filled_transformer(TINY)
    time = sinusoid(torch.tensor([713.0]), 256)[:, None]  # [1, 1, 256]
    tokens = torch.randn(1, 5, 256)
    exact = model.head(tokens, model.time_embedding(time))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.head(tokens, model.time_embedding(time)), exact)


def test_autocast_trains_every_parameter() -> None:
    model = WanTransformer(NARROW)
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 5, 2, 4, 4), torch.tensor([3.0, 900.0]), torch.randn(2, 6, 20)).square().mean().backward()
    assert silent_parameters(model) == []


def test_callback_after_each_block_can_stop() -> None:
    class Stop(Exception):
        pass

    seen = []

    def on_block(index: int) -> None:
        seen.append(index)
        if index == 1:
            raise Stop

    model = WanTransformer(COARSE)
    with pytest.raises(Stop), torch.no_grad():
        model(torch.randn(1, 4, 1, 4, 4), torch.tensor([1.0]), torch.zeros(1, 6, 20), on_block)
    assert seen == [0, 1]
