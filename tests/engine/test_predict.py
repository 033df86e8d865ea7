"""Predicted peaks of the text stage against what really stays alive: never below, at most 10 % above."""

import dataclasses

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.predict import encoding_bytes
from engine.memory.simulate import LiveStorages
from engine.models.text_encoder import TextEncoder, TextEncoderConfig

UMT5 = TextEncoderConfig(num_layers=3)  # every layer costs the same; three show what one leaves behind
SMALL_TEXT = dataclasses.replace(UMT5, vocab_size=800, dim=128, dim_attn=128, dim_ffn=256, num_heads=4)


def given_weights(model: torch.nn.Module, dtype: torch.dtype, storages: LiveStorages) -> int:
    """Weights without values as a checkpoint brings them, counted; returns their bytes."""
    state = {name: torch.empty(p.shape, dtype=dtype) for name, p in model.named_parameters()}
    model.load_state_dict(state, assign=True)
    for parameter in model.parameters():
        storages.follow(parameter)
    return sum(tensor.nbytes for tensor in state.values())


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
