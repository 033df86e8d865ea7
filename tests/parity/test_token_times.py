"""Times of single tokens: against recorded outputs of the official code, against diffusers, and what they cost."""

import dataclasses

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.simulate import LiveStorages
from engine.models.transformer import TransformerConfig, WanTransformer
from tests.parity.fill import filled
from tests.parity.official import VECTORS, assert_close, assert_recorded
from tests.parity.transformer_twin import COARSE, NARROW, TINY, diffusers_twin, filled_transformer

RECORDED = dataclasses.replace(TINY, model_type="ti2v", in_dim=48, out_dim=48)
TI2V_5B = TransformerConfig(dim=3072, ffn_dim=14336, num_heads=24, num_layers=2, in_dim=48, out_dim=48)
FRAME_TIMES = torch.tensor([[0.0, 713.0, 713.0]])


@torch.no_grad()
@pytest.mark.parametrize("timestep", [FRAME_TIMES, FRAME_TIMES.repeat_interleave(6, dim=1)], ids=["frame", "token"])
def test_official_output(timestep: Tensor) -> None:
    text = torch.zeros(1, 16, 64)
    text[0, :5] = filled("context", 5, 64)
    out = filled_transformer(RECORDED)(filled("x", 1, 48, 3, 4, 6), timestep, text)
    assert_recorded(out[0], VECTORS["dit_ti2v"]["out"])


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "shape", "tokens"),
    [(TINY, (2, 16, 3, 4, 6), 18), (NARROW, (1, 5, 1, 2, 2), 1), (COARSE, (3, 4, 3, 8, 12), 18)],
)
def test_same_as_diffusers(config: TransformerConfig, shape: tuple[int, ...], tokens: int) -> None:
    """Another time for every token of every clip."""
    torch.manual_seed(sum(shape))
    model = filled_transformer(config)
    latents, timestep = torch.randn(shape), torch.rand(shape[0], tokens) * 1000
    text = torch.randn(shape[0], config.text_len, config.text_dim)
    expected = diffusers_twin(model)(latents, timestep, text, return_dict=False)[0]
    assert_close(model(latents, timestep, text), expected, 2e-5)


@torch.no_grad()
def test_one_time_for_all_is_that_time_for_each() -> None:
    torch.manual_seed(0)
    model = filled_transformer(COARSE)
    latents, text = torch.randn(2, 4, 3, 8, 12), torch.randn(2, 6, 20)
    time = torch.tensor([3.0, 900.0])
    expected = model(latents, time, text)
    for runs in (1, 3, 9, 18):
        assert_close(model(latents, time[:, None].expand(2, runs), text), expected, 2e-6)


def test_times_that_do_not_divide_the_tokens_are_refused() -> None:
    with pytest.raises(RuntimeError, match="unflatten"), torch.no_grad():
        filled_transformer(COARSE)(torch.randn(1, 4, 3, 8, 12), torch.rand(1, 4), torch.randn(1, 6, 20))


def peak_of_a_pass(times: int) -> int:
    """Bytes alive at most in one pass of Wan 2.2 TI2V-5B at 1280x704, 121 frames, of two blocks."""
    storages = LiveStorages()
    with FakeTensorMode(), torch.no_grad():
        model = WanTransformer(TI2V_5B)
        latents, text = torch.empty(1, 48, 31, 44, 80), torch.empty(1, 512, 4096)
        with storages:
            model(latents, torch.empty(1, times), text)
    return storages.peak["cpu"]


def test_a_time_for_each_frame_costs_nothing_a_token() -> None:
    """One modulation a token would be 2 GiB here; one a frame is the vectors of 31 frames on their way through."""
    vectors = 48 * 4 * TI2V_5B.dim
    assert peak_of_a_pass(31) - peak_of_a_pass(1) <= 30 * vectors
