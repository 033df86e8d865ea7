"""The transformer against recorded outputs of the official code and against diffusers."""

import dataclasses

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor

from engine.models.transformer import TransformerConfig, WanTransformer, rope_table, rotate, sinusoid
from tests.parity.fill import fill_parameters, filled
from tests.parity.official import VECTORS, assert_close, assert_recorded, renamed

TINY = TransformerConfig(dim=256, ffn_dim=512, num_heads=2, num_layers=2, text_len=16, text_dim=64)
NARROW = TransformerConfig(
    dim=96, ffn_dim=160, freq_dim=64, num_heads=4, num_layers=1, in_dim=5, out_dim=3, text_len=6, text_dim=20
)
COARSE = dataclasses.replace(NARROW, num_heads=2, num_layers=3, in_dim=4, out_dim=4, patch_size=(1, 4, 4))
LONG_PATCH = dataclasses.replace(NARROW, num_heads=3, patch_size=(2, 1, 3))


def tiny_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """The inputs that `dit_t2v` was recorded with: latents, timestep, five text rows padded to sixteen."""
    text = torch.zeros(1, 16, 64)
    text[0, :5] = filled("context", 5, 64)
    return filled("x", 1, 16, 3, 4, 6), torch.tensor([713.0]), text


def diffusers_twin(model: WanTransformer) -> WanTransformer3DModel:
    config = model.config
    peer = WanTransformer3DModel(
        patch_size=config.patch_size, num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
        in_channels=config.in_dim, out_channels=config.out_dim, text_dim=config.text_dim, freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim, num_layers=config.num_layers, eps=config.eps, rope_max_seq_len=32,
    )  # fmt: skip
    peer.load_state_dict(renamed(model.state_dict(), "transformer"), strict=True)
    return peer.eval()


@torch.no_grad()
def test_official_output() -> None:
    out = fill_parameters(WanTransformer(TINY))(*tiny_inputs())
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
    model = WanTransformer(config)
    fill_parameters(model)
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
    model = WanTransformer(TINY)
    fill_parameters(model)
    exact = model(*inputs)
    rounded = model.to(dtype)(*inputs)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.06 * exact.std()


@torch.no_grad()
def test_time_and_head_stay_float32_under_autocast() -> None:
    model = WanTransformer(TINY)
    fill_parameters(model)
    time = sinusoid(torch.tensor([713.0]), 256)
    tokens = torch.randn(1, 5, 256)
    exact = model.head(tokens, model.time_embedding(time))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.head(tokens, model.time_embedding(time)), exact)


def test_autocast_trains_every_parameter() -> None:
    model = WanTransformer(NARROW)
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(2, 5, 2, 4, 4), torch.tensor([3.0, 900.0]), torch.randn(2, 6, 20)).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A constant added to every key changes no softmax, so these gradients are zero up to rounding.
    assert [name for name in silent if not name.endswith(".k.bias")] == []


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
