"""The transformer in pieces against the transformer whole, over sizes of pieces, times, images and forms of weights."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.attention.attend import sdpa
from engine.decode.room import room_on_host
from engine.denoise.streaming import Denoiser
from engine.memory.block_swap import BlockSwap
from engine.models.quantized_linear import QuantizedLinear
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.weights.lora.deltas import LowRank
from engine.weights.lora.runtime import LoraLinear
from engine.weights.quantize import quantize_weight
from engine.weights.quantized_layers import LAYERS
from engine.weights.source import QuantFormat
from tests.parity.fill import filled
from tests.parity.official import VECTORS, assert_recorded
from tests.parity.transformer_twin import COARSE, NARROW, TINY, filled_transformer

TWO_BLOCKS = dataclasses.replace(NARROW, num_layers=2)
WITH_IMAGES = dataclasses.replace(TWO_BLOCKS, image_dim=40, image_positions=14)
SHAPE = (4, 6, 10)  # of latents; 60 tokens, 15 a frame
TOKENS = 60


def inputs(config: TransformerConfig, batch: int = 1, shape: tuple[int, int, int] = SHAPE) -> tuple[Tensor, Tensor]:
    torch.manual_seed(batch)
    return torch.randn(batch, config.in_dim, *shape), torch.randn(batch, config.text_len, config.text_dim)


def in_pieces(model: WanTransformer, size: int) -> Denoiser:
    return Denoiser(model, lambda: model.blocks, size, sdpa)


def whole(model: WanTransformer, *given: Tensor, image: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return model(*given, image=image)


def off(out: Tensor, expected: Tensor) -> float:
    assert out.shape == expected.shape
    assert out.dtype is expected.dtype is torch.float32
    return float((out - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("runs", [None, 1, 4, 12, TOKENS], ids=["a clip", "1 run", "a frame", "5 tokens", "a token"])
@pytest.mark.parametrize("size", [1, 4, 7, 15, 16, 32, 59, TOKENS, 1000])
def test_same_for_every_size_and_time(size: int, runs: int | None, batch: int) -> None:
    model = filled_transformer(TWO_BLOCKS)
    latents, text = inputs(TWO_BLOCKS, batch)
    timestep = torch.rand(batch, runs or 1) * 1000
    timestep = timestep[:, 0] if runs is None else timestep
    out = in_pieces(model, size).velocity(latents, timestep, text)
    expected = whole(model, latents, timestep, text)
    assert off(out, expected) <= (0 if size >= TOKENS and runs in (None, 1) else 1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 2),
    st.integers(1, 40),
    st.data(),
)
def test_same_for_sizes_that_nobody_thought_of(
    grid: tuple[int, int, int], batch: int, size: int, data: st.DataObject
) -> None:
    tokens = grid[0] * grid[1] * grid[2]
    runs = data.draw(st.sampled_from([n for n in range(1, tokens + 1) if tokens % n == 0]))
    model = filled_transformer(COARSE)
    latents, text = inputs(COARSE, batch, (grid[0], 4 * grid[1], 4 * grid[2]))
    timestep = torch.rand(batch, runs) * 1000
    out = in_pieces(model, size).velocity(latents, timestep, text)
    assert off(out, whole(model, latents, timestep, text)) <= 2e-6


@pytest.mark.parametrize("tokens", [None, 7, 14])
@pytest.mark.parametrize("size", [8, 33, TOKENS])
def test_images(size: int, tokens: int | None) -> None:
    model = filled_transformer(WITH_IMAGES)
    latents, text = inputs(WITH_IMAGES, 2)
    image = None if tokens is None else 2 * torch.randn(2, tokens, 40)
    timestep = torch.tensor([3.0, 950.0])
    out = in_pieces(model, size).velocity(latents, timestep, text, image=image)
    assert off(out, whole(model, latents, timestep, text, image=image)) <= 1e-6
    if image is not None:
        assert off(out, whole(model, latents, timestep, text)) > 0.01


@pytest.mark.parametrize("size", [5, 18])
def test_official_output_with_an_image(size: int) -> None:
    text = torch.zeros(1, 16, 64)
    text[0, :5] = filled("context", 5, 64)
    latents = torch.cat([filled("x", 1, 16, 3, 4, 6), filled("y", 1, 20, 3, 4, 6)], dim=1)
    model = filled_transformer(dataclasses.replace(TINY, model_type="i2v", in_dim=36, image_dim=1280))
    image = filled("clip_fea", 1, 257, 1280)
    out = in_pieces(model, size).velocity(latents, torch.tensor([713.0]), text, image=image)
    assert_recorded(out[0], VECTORS["dit_i2v"]["out"])


def quantized(model: WanTransformer, to: QuantFormat) -> WanTransformer:
    """Every product inside the blocks with a stored weight, one of them with a LoRA beside it."""
    for name, layer in list(model.named_modules()):
        if LAYERS.fullmatch(name) and isinstance(layer, nn.Linear):
            bias = layer.bias.detach()
            model.set_submodule(name, QuantizedLinear(quantize_weight(layer.weight.detach(), to), bias), strict=True)
    base = model.get_submodule("blocks.1.ffn.0")
    assert isinstance(base, QuantizedLinear)
    rows, columns = base.out_features, base.in_features
    change = LowRank(torch.randn(rows, 2), torch.randn(2, columns))
    lora = LoraLinear(base, [(change, 0.1)], None, base.bias.dtype if base.bias is not None else torch.float32)
    model.set_submodule("blocks.1.ffn.0", lora, strict=True)
    return model.requires_grad_(False)


@pytest.mark.parametrize("to", [QuantFormat.FP8_E4M3, QuantFormat.NVFP4])
@pytest.mark.parametrize("size", [8, 33, TOKENS])
def test_quantised_blocks_with_a_lora(size: int, to: QuantFormat) -> None:
    torch.manual_seed(0)
    model = quantized(filled_transformer(WITH_IMAGES), to)
    latents, text = inputs(WITH_IMAGES)
    given = latents, torch.tensor([[0.0, 700.0, 700.0, 700.0]]), text
    out = in_pieces(model, size).velocity(*given)
    assert off(out, whole(model, *given)) <= 1e-6


@pytest.mark.parametrize("size", [7, 32, TOKENS])
@pytest.mark.parametrize("islands", [torch.float32, torch.bfloat16])
def test_bfloat16(islands: torch.dtype, size: int) -> None:
    """Pieces may round other products the other way, but are no further from float32 than the whole is."""
    model = filled_transformer(TWO_BLOCKS)
    latents, text = inputs(TWO_BLOCKS)
    timestep = torch.tensor([[0.0, 700.0, 700.0, 700.0]])
    exact = whole(model, latents, timestep, text)
    wide = {name: p for name, p in model.state_dict().items() if "norm" in name or "time" in name or "head" in name}
    narrow = {name: p.to(torch.bfloat16) for name, p in model.state_dict().items()}
    model.load_state_dict({**narrow, **{name: p.to(islands) for name, p in wide.items()}}, assign=True)
    expected = whole(model, latents, timestep, text)
    out = in_pieces(model, size).velocity(latents, timestep, text)
    assert off(out, exact) <= 1.3 * off(expected, exact)
    if size == TOKENS:
        assert off(out, expected) <= 1e-3


def test_what_is_given_stays_as_it_is_and_gives_the_same_again() -> None:
    model = filled_transformer(WITH_IMAGES)
    latents, text = inputs(WITH_IMAGES)
    image, timestep = torch.randn(1, 7, 40), torch.tensor([[0.0, 700.0, 700.0, 700.0]])
    held = [tensor.clone() for tensor in (latents, timestep, text, image)]
    denoiser = in_pieces(model, 13)
    out = denoiser.velocity(latents, timestep, text, image=image)
    kept = out.clone()
    again = denoiser.velocity(latents, timestep, text, image=image)
    assert torch.equal(out, kept)
    assert torch.equal(out, again)
    assert all(map(torch.equal, held, (latents, timestep, text, image)))
    assert not out.requires_grad


def test_nothing_is_read_before_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory comes full of NaN here."""
    model = filled_transformer(TWO_BLOCKS)
    latents, text = inputs(TWO_BLOCKS, 2)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan().all()
        assert in_pieces(model, 13).velocity(latents, torch.tensor([1.0, 2.0]), text).isfinite().all()
    finally:
        torch.use_deterministic_algorithms(False)


def test_clips_of_a_batch_do_not_see_each_other() -> None:
    model = filled_transformer(TWO_BLOCKS)
    latents, text = inputs(TWO_BLOCKS, 2)
    timestep = torch.rand(2, 4) * 1000
    together = in_pieces(model, 16).velocity(latents, timestep, text)
    for i in range(2):
        alone = in_pieces(model, 16).velocity(latents[i : i + 1], timestep[i : i + 1], text[i : i + 1])
        assert off(together[i : i + 1], alone) <= 1e-6


def test_only_self_attention_is_what_attend_computes() -> None:
    model = filled_transformer(WITH_IMAGES)
    latents, text = inputs(WITH_IMAGES)
    seen = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((q.shape[2], k.shape, k.is_contiguous(), k.dtype, v.dtype))
        return sdpa(q, k, v)

    denoiser = Denoiser(model, lambda: model.blocks, 32, attend)
    denoiser.velocity(latents, torch.tensor([500.0]), text, image=torch.randn(1, 7, 40))
    keys = torch.Size((1, 4, TOKENS, 24))
    assert seen == [(length, keys, True, torch.float32, torch.float32) for length in (32, 28)] * 2


def test_a_call_can_be_left_after_a_block_and_begun_anew() -> None:
    model = filled_transformer(COARSE)
    latents, text = inputs(COARSE, 1, (3, 8, 12))
    walked, told = [], []

    def walk() -> Iterator[nn.Module]:
        for i, block in enumerate(model.blocks):
            walked.append(i)
            yield block

    def stop(block: int) -> None:
        told.append(block)
        if block == 1:
            raise InterruptedError

    denoiser = Denoiser(model, walk, 4, sdpa)
    given = latents, torch.tensor([3.0]), text
    with pytest.raises(InterruptedError):
        denoiser.velocity(*given, on_block=stop)
    assert walked == told == [0, 1]
    assert off(denoiser.velocity(*given), whole(model, *given)) <= 1e-6


def test_what_the_model_cannot_take_is_refused() -> None:
    denoiser = in_pieces(filled_transformer(TWO_BLOCKS), 13)
    latents, text = inputs(TWO_BLOCKS)
    with pytest.raises(ValueError, match="image"):
        denoiser.velocity(latents, torch.ones(1), text, image=torch.randn(1, 7, 40))
    with pytest.raises(ValueError, match="60 tokens do not fall into 7 equal runs"):
        denoiser.velocity(latents, torch.ones(1, 7), text)


@pytest.mark.parametrize("resident", [0, 1, 2])
def test_swapped_blocks_give_the_same_to_the_bit(resident: int) -> None:
    torch.manual_seed(0)
    model = quantized(filled_transformer(WITH_IMAGES), QuantFormat.FP8_E4M3)
    latents, text = inputs(WITH_IMAGES)
    given = latents, torch.tensor([500.0]), text
    expected = in_pieces(model, 16).velocity(*given)
    swap = BlockSwap(list(model.blocks), torch.device("cpu"), resident, room_on_host)
    denoiser = Denoiser(model, swap.walk, 16, sdpa)
    for _ in range(2):
        assert torch.equal(denoiser.velocity(*given), expected)
    swap.close()
