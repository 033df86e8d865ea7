"""The umT5 encoder against recorded outputs of the official code and against transformers."""

import pytest
import torch
from torch import Tensor
from transformers import UMT5Config, UMT5EncoderModel

from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from tests.parity.fill import fill_parameters
from tests.parity.official import VECTORS, assert_close, assert_recorded, renamed

TINY = TextEncoderConfig(vocab_size=50, dim=64, dim_attn=64, dim_ffn=128, num_heads=4, num_layers=2)
WIDE_HEADS = TextEncoderConfig(vocab_size=31, dim=24, dim_attn=60, dim_ffn=40, num_heads=3, num_layers=3)


def transformers_twin(model: TextEncoder) -> UMT5EncoderModel:
    config = model.config
    peer = UMT5EncoderModel(
        UMT5Config(
            vocab_size=config.vocab_size, d_model=config.dim, d_kv=config.dim_attn // config.num_heads,
            d_ff=config.dim_ffn, num_layers=config.num_layers, num_heads=config.num_heads,
            relative_attention_num_buckets=config.num_buckets, relative_attention_max_distance=config.max_distance,
            layer_norm_epsilon=config.eps, dropout_rate=0.0, feed_forward_proj="gated-gelu",
        )
    )  # fmt: skip
    state = renamed(model.state_dict(), "text_encoder")
    peer.load_state_dict(state | {"encoder.embed_tokens.weight": state["shared.weight"]}, strict=True)
    return peer.eval()


@torch.no_grad()
def test_official_output() -> None:
    model = fill_parameters(TextEncoder(TINY))
    ids = torch.tensor([[7, 11, 3, 42, 1, 0, 0, 0]])
    out = model(ids, torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0]]))[0]
    assert_recorded(out[:5], VECTORS["umt5"]["out_first5"])


def masked_batch(lengths: list[int], vocab_size: int) -> tuple[Tensor, Tensor]:
    """Random ids and the mask of rows with `lengths` real tokens each."""
    ids = torch.randint(vocab_size, (len(lengths), max(lengths)))
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    return ids, mask.long()


@torch.no_grad()
@pytest.mark.parametrize("config", [TINY, WIDE_HEADS])
@pytest.mark.parametrize("lengths", [[1], [9, 17], [200, 3, 150]])
def test_same_as_transformers(config: TextEncoderConfig, lengths: list[int]) -> None:
    torch.manual_seed(len(lengths))
    model = TextEncoder(config)
    fill_parameters(model)
    ids, mask = masked_batch(lengths, config.vocab_size)
    expected = transformers_twin(model)(ids, attention_mask=mask).last_hidden_state
    out = model(ids, mask)
    for row, length in enumerate(lengths):
        assert_close(out[row, :length], expected[row, :length], 2e-5)


@torch.no_grad()
def test_padding_changes_nothing_and_is_zero() -> None:
    torch.manual_seed(0)
    model = fill_parameters(TextEncoder(TINY))
    ids, mask = masked_batch([7], TINY.vocab_size)
    padded_ids = torch.nn.functional.pad(ids, (0, 9), value=5)
    out = model(padded_ids, torch.nn.functional.pad(mask, (0, 9)))
    assert_close(out[:, :7], model(ids, mask), 1e-5)
    assert out[:, 7:].abs().max() == 0


@torch.no_grad()
def test_float16_overflow_is_pulled_back() -> None:
    """A residual stream beyond float16 is clamped as officially instead of turning into NaN."""
    model = TextEncoder(TINY)
    fill_parameters(model)
    for name, parameter in model.named_parameters():
        parameter.mul_(5e5 if name.endswith("fc2.weight") else 1)
    ids, mask = masked_batch([6], TINY.vocab_size)
    model.half()
    assert model(ids, mask).isfinite().all()


def test_every_parameter_trains() -> None:
    torch.manual_seed(0)
    model = TextEncoder(TINY)
    ids, mask = masked_batch([5, 12], TINY.vocab_size)
    with torch.autocast("cpu", torch.bfloat16):
        model(ids, mask).square().mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
