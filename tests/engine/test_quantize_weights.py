"""Rounding weights: how much is lost on weights as networks have them, and what happens to odd ones."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.weights import quantize
from engine.weights.dequantize import values
from engine.weights.nvfp4 import MAGNITUDES, pack, round_to_e2m1, unpack
from engine.weights.quantize import quantize_fp8, quantize_nvfp4, quantize_weight
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import Part, QuantFormat
from tests.engine.weight_samples import KINDS, relative_error, weight_of

FORMS = [QuantFormat.FP8_E4M3, QuantFormat.NVFP4]
LIMITS = {QuantFormat.FP8_E4M3: 0.027, QuantFormat.NVFP4: 0.10}


def round_trip(weight: Tensor, to: QuantFormat) -> Tensor:
    return values(quantize_weight(weight, to), torch.float32)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_little_is_lost(kind: str, to: QuantFormat) -> None:
    weight = weight_of(kind)
    assert relative_error(round_trip(weight, to), weight) <= LIMITS[to]


@pytest.mark.parametrize("kind", KINDS)
def test_one_scale_for_a_whole_weight_is_enough_in_fp8(kind: str) -> None:
    weight = weight_of(kind)
    stored = quantize_weight(weight, QuantFormat.FP8_E4M3, scale_rows=False)
    assert stored.parts[Part.WEIGHT_SCALE].shape == ()
    assert relative_error(values(stored, torch.float32), weight) <= 0.027


def test_shapes_and_dtypes() -> None:
    weight = weight_of("normal", 100, 200)
    stored, scale = quantize_fp8(weight)
    assert (stored.shape, stored.dtype, scale.shape, scale.dtype) == (
        (100, 200), torch.float8_e4m3fn, (100, 1), torch.float32,
    )  # fmt: skip
    packed, scales, tensor_scale = quantize_nvfp4(weight)
    assert (packed.shape, packed.dtype) == ((112, 104), torch.uint8)
    assert (scales.shape, scales.dtype) == ((128, 16), torch.float8_e4m3fn)
    assert (tensor_scale.shape, tensor_scale.dtype) == ((), torch.float32)


def test_what_lies_on_the_grid_is_exact() -> None:
    grid = torch.tensor([*MAGNITUDES, *(-m for m in MAGNITUDES)]).repeat(32, 4)  # 6 is in each block of 16
    assert torch.equal(round_trip(grid * 448, QuantFormat.NVFP4), grid * 448)
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    grid = codes[codes.isfinite()].repeat(3, 1)
    assert torch.equal(round_trip(grid * 2**-9, QuantFormat.FP8_E4M3), grid * 2**-9)


@pytest.mark.parametrize("to", FORMS)
def test_how_many_rows_are_searched_at_a_time_changes_nothing(to: QuantFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = weight_of("heavy tails", 700, 96)
    whole = quantize_weight(weight, to)
    monkeypatch.setattr(quantize, "SEARCHED_VALUES", {"cpu": 96 * 300})
    pieces = quantize_weight(weight, to)
    assert torch.equal(pieces.data.view(torch.uint8), whole.data.view(torch.uint8))
    for part, tensor in whole.parts.items():
        assert torch.equal(pieces.parts[part].view(tensor.dtype).float(), tensor.float())


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(bad: float, to: QuantFormat) -> None:
    weight = weight_of("normal", 40, 40)
    weight[17, 3] = bad
    with pytest.raises(ValueError, match="not finite"):
        quantize_weight(weight, to)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("size", [1e-44, 1e-38, 1e-30, 1e30, 3e38])
def test_sizes_at_the_ends_of_float32(size: float, to: QuantFormat) -> None:
    weight = torch.full((20, 20), size) * torch.tensor([1.0, -1.0]).repeat(10)
    read = round_trip(weight, to)
    assert read.isfinite().all()
    if size > 1e-37:
        assert relative_error(read, weight) <= LIMITS[to]
    else:
        assert (read - weight).abs().max() <= 2 * size


@pytest.mark.parametrize("to", FORMS)
def test_zeros(to: QuantFormat) -> None:
    assert not round_trip(torch.zeros(33, 17), to).any()
    one = torch.zeros(33, 17)
    one[32, 16] = -0.7
    torch.testing.assert_close(round_trip(one, to), one, rtol=1e-6, atol=0)


@pytest.mark.parametrize("to", FORMS)
def test_a_single_huge_value_leaves_the_others_alone(to: QuantFormat) -> None:
    weight = weight_of("normal").float()
    weight[10, 20] = 100.0  # 5000 times the others
    read = round_trip(weight, to)
    assert read[10, 20].item() == pytest.approx(100, rel=1e-6)
    # Its row, or its block, shares its scale; the rest must come out as ever.
    others = torch.ones_like(weight, dtype=torch.bool)
    others[10] = False
    assert relative_error(read[others], weight[others]) <= LIMITS[to]


@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 2**31), st.sampled_from(FORMS), st.floats(-20, 20))
@settings(max_examples=40, deadline=None)
def test_any_shape_and_scale(rows: int, columns: int, seed: int, to: QuantFormat, exponent: float) -> None:
    values_in = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 2**exponent
    read = round_trip(values_in, to)
    assert read.shape == values_in.shape
    assert relative_error(read, values_in) <= (0.07 if to is QuantFormat.FP8_E4M3 else 0.26)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31), st.booleans())
@settings(max_examples=40, deadline=None)
def test_pack_and_unpack(rows: int, pairs: int, seed: int, low_first: bool) -> None:
    codes = torch.randint(16, (rows, 2 * pairs), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    table = torch.tensor([*MAGNITUDES, *(-m for m in MAGNITUDES)])
    read = unpack(pack(codes, low_nibble_first=low_first), low_nibble_first=low_first)
    assert torch.equal(read, table[codes.long()])


@given(st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=50))
def test_e2m1_rounds_to_the_nearest(numbers: list[float]) -> None:
    rounded = round_to_e2m1(torch.tensor(numbers)).tolist()
    for number, found in zip(numbers, rounded, strict=True):
        assert abs(found) in MAGNITUDES
        assert abs(abs(found) - abs(number)) == min(abs(m - abs(number)) for m in MAGNITUDES)
        assert math.copysign(1, found) == math.copysign(1, number)


def test_ties_of_e2m1_go_to_even_codes() -> None:
    ties = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    assert round_to_e2m1(ties).tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]


def test_only_the_large_products_are_quantised() -> None:
    yes = ["blocks.0.self_attn.q", "blocks.39.cross_attn.v_img", "blocks.1.ffn.0", "blocks.1.ffn.2", "blocks.5.attn.o"]
    yes += ["blocks.23.ffn.gate.0", "blocks.0.ffn.fc1", "blocks.0.ffn.fc2", "blocks.7.cross_attn.k_img"]
    no = ["head.head", "text_embedding.0", "blocks.0.self_attn.norm_q", "blocks.0.norm3", "time_projection.1"]
    no += [
        "patch_embedding",
        "token_embedding",
        "blocks.0.pos_embedding.embedding",
        "img_emb.proj.1",
        "xblocks.0.ffn.0",
    ]
    no += ["visual.transformer.0.attn.to_qkv", "decoder.middle.1.to_qkv", "blocks.0.audio_cross_attn.proj"]
    assert [name for name in yes + no if is_quantized_layer(name, QuantFormat.NVFP4)] == yes
    eight_bits = [name for name in yes + no if is_quantized_layer(name, QuantFormat.FP8_E4M3)]
    assert eight_bits == [*yes, "text_embedding.0"]


def test_how_many_layers_of_the_real_networks_are_quantised() -> None:
    with torch.device("meta"):
        networks = [WanTransformer(TransformerConfig()), TextEncoder(TextEncoderConfig())]
    linear = [[name for name, layer in net.named_modules() if isinstance(layer, nn.Linear)] for net in networks]
    # ComfyUI's file of the text encoder has as many scales.
    chosen = [[name for name in names if is_quantized_layer(name, QuantFormat.NVFP4)] for names in linear]
    assert [len(names) for names in chosen] == [30 * 10, 168]
    parameters = sum(p.numel() for p in networks[0].parameters())
    quantised = sum(networks[0].get_submodule(n).get_parameter("weight").numel() for n in chosen[0])
    assert quantised / parameters > 0.97
