"""Predicted peaks of the text and the sampling stage against what really stays alive: never below, 10 % above."""

import dataclasses
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.predict import encoding_bytes, sampling_bytes
from engine.memory.simulate import LiveStorages
from engine.models.float32_islands import keeps_float32
from engine.models.rope import Grid
from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.sampling.guidance import guided
from engine.sampling.schedule import unipc_schedule
from engine.sampling.solvers import Past, unipc_step
from tests.engine.tiny_model import TRANSFORMER

WAN_1_3B = TransformerConfig(num_layers=3)  # every layer costs the same; three show what one leaves behind
WAN_14B = TransformerConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=2)
UMT5 = TextEncoderConfig(num_layers=3)
SMALL_TEXT = dataclasses.replace(UMT5, vocab_size=800, dim=128, dim_attn=128, dim_ffn=256, num_heads=4)


def given_weights(model: torch.nn.Module, dtype: torch.dtype, storages: LiveStorages) -> int:
    """Weights without values as a checkpoint brings them, counted; returns their bytes."""
    islands = isinstance(model, WanTransformer)
    state = {
        name: torch.empty(p.shape, dtype=torch.float32 if islands and keeps_float32(name) else dtype)
        for name, p in model.named_parameters()
    }
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        storages.follow(parameter)
    return sum(tensor.nbytes for tensor in state.values())


def velocity_of(model: WanTransformer, x: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    return model(x, torch.empty(1), text)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("config", "latent_size"),
    [(TRANSFORMER, (9, 32, 32)), (WAN_1_3B, (21, 60, 104)), (WAN_14B, (21, 90, 160)), (WAN_14B, (1, 60, 104))],
    ids=["tiny", "1.3B 480p", "14B 720p", "14B still"],
)
def test_sampling(config: TransformerConfig, latent_size: Grid, dtype: torch.dtype) -> None:
    storages = LiveStorages()
    with FakeTensorMode(), torch.no_grad():
        with torch.device("meta"):
            model = WanTransformer(config)
        with storages:
            weights = given_weights(model, dtype, storages)
            texts = [torch.empty(1, config.text_len, config.text_dim, dtype=dtype) for _ in range(2)]
            x, past = torch.empty(1, config.in_dim, *latent_size), Past()
            schedule = unipc_schedule(4, 3.0)
            for index in range(schedule.steps):
                velocity = guided(partial(velocity_of, model, x), texts[0], texts[1], 4.0)
                x, past = unipc_step(schedule, index, x, velocity, past)
    assert 1 <= (weights + sampling_bytes(config, latent_size, dtype)) / storages.peak["cpu"] <= 1.1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("config", "tokens"), [(SMALL_TEXT, 32), (SMALL_TEXT, 512), (UMT5, 512)])
def test_text(config: TextEncoderConfig, tokens: int, dtype: torch.dtype) -> None:
    storages = LiveStorages()
    with FakeTensorMode(), torch.no_grad():
        with torch.device("meta"):
            model = TextEncoder(config)
        with storages:
            weights = given_weights(model, dtype, storages)
            model(torch.empty(1, tokens, dtype=torch.long), torch.empty(1, tokens, dtype=torch.long))
    predicted = weights + encoding_bytes(config, tokens, dtype)
    assert 1 <= predicted / storages.peak["cpu"] <= 1.1
