"""The linear layer that keeps its weight as it is stored: its products, memory and state, and a network of them."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.model_choice import WeightForm
from engine.models import quantized_linear
from engine.models.quantized_linear import QuantizedLinear
from engine.models.scaled_products import Product, fp8_product, nvfp4_product, product_of
from engine.weights import dequantize
from engine.weights.dequantize import read_tensors, values
from engine.weights.detect import find_model
from engine.weights.load import load_transformer
from engine.weights.quantize import quantize_fp8, quantize_weight
from engine.weights.source import QuantFormat
from tests.engine.weight_samples import header_of, relative_error, source_of, weight_of

CPU = torch.device("cpu")
FORMS = [QuantFormat.FP8_E4M3, QuantFormat.NVFP4]
MINI = Path(__file__).parents[2] / "resources" / "mini"


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def layer_of(to: QuantFormat, rows: int = 300, columns: int = 96, *, with_bias: bool = True) -> QuantizedLinear:
    bias = torch.randn(rows) if with_bias else None
    return QuantizedLinear(quantize_weight(weight_of("normal", rows, columns), to), bias)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("work_bytes", [1, dequantize.WORK_BYTES])
def test_product_is_that_of_the_values(
    to: QuantFormat, with_bias: bool, work_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dequantize, "WORK_BYTES", work_bytes)
    layer = layer_of(to, with_bias=with_bias)
    x = torch.randn(2, 5, 96)
    expected = F.linear(x, values(layer.stored, torch.float32), layer.bias)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_product_has_the_dtype_of_the_input(dtype: torch.dtype) -> None:
    layer = layer_of(QuantFormat.NVFP4)
    x = torch.randn(7, 96).to(dtype)
    expected = F.linear(x.float(), values(layer.stored, torch.float32), layer.bias)
    assert layer(x).dtype is dtype
    torch.testing.assert_close(layer(x).float(), expected, rtol=0.02, atol=0.02)


def test_scale_of_the_input() -> None:
    stored = quantize_weight(weight_of("normal", 32, 64), QuantFormat.NVFP4)
    tensors: dict[str, Tensor] = {"weight": stored.data, "pre_quant_scale": torch.linspace(0.5, 2, 64)}
    tensors |= {part.value: tensor for part, tensor in stored.parts.items()}
    source = source_of(tensors, (32, 64), QuantFormat.NVFP4)
    layer = QuantizedLinear(read_tensors(source, tensors.__getitem__, header_of(tensors)), None)
    x = torch.randn(3, 64)
    expected = F.linear(x * tensors["pre_quant_scale"], values(stored, torch.float32))
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("to", FORMS)
def test_casting_and_moving_leave_the_stored_tensors(to: QuantFormat) -> None:
    layer = layer_of(to)
    before = {name: (tensor.dtype, tensor.shape) for name, tensor in layer.named_buffers()}
    x = torch.randn(3, 96)
    expected = layer(x)
    layer.to(torch.bfloat16).half().double().float().to("cpu", torch.float32)
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in layer.named_buffers()} == before
    torch.testing.assert_close(layer(x), expected, rtol=0.01, atol=0.01)  # the bias has been through bfloat16
    assert layer.bfloat16().get_parameter("bias").dtype is torch.bfloat16
    assert layer.to("meta").weight.is_meta
    assert set(layer.state_dict()) == {"weight", "bias", "weight_scale"} | (
        {"weight_scale_2"} if to is QuantFormat.NVFP4 else set()
    )


@pytest.mark.parametrize("to", FORMS)
def test_state_is_loaded_strictly(to: QuantFormat) -> None:
    layer, other = layer_of(to), layer_of(to)
    other.weight.zero_()
    other.load_state_dict(copy.deepcopy(layer.state_dict()), strict=True, assign=True)
    x = torch.randn(3, 96)
    assert torch.equal(other(x), layer(x))


def test_what_does_not_fit_is_refused_at_once() -> None:
    tensors = {"weight": torch.zeros(8, 8, dtype=torch.int8), "weight_scale": torch.ones(7)}
    source = source_of(tensors, (8, 8), QuantFormat.INT8)
    with pytest.raises(ValueError, match="7 scales for 8 rows"):
        QuantizedLinear(read_tensors(source, tensors.__getitem__, header_of(tensors)), None)


@pytest.mark.parametrize("to", FORMS)
def test_memory_beside_the_output_is_bounded(to: QuantFormat, monkeypatch: pytest.MonkeyPatch) -> None:
    work_bytes = 4 << 20
    monkeypatch.setattr(dequantize, "WORK_BYTES", work_bytes)
    layer = layer_of(to, 4096, 2048, with_bias=True)  # 32 MiB in float32
    x = torch.randn(4, 2048, dtype=torch.bfloat16)
    with torch.profiler.profile(profile_memory=True) as profile:
        layer(x)
    live = peak = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert 0 < peak <= work_bytes + (1 << 20)


@pytest.mark.parametrize("scale_rows", [True, False])
def test_product_in_eight_bits(scale_rows: bool) -> None:
    weight, x = weight_of("normal", 64, 96).float(), torch.randn(5, 96)
    stored, scale = quantize_fp8(weight, scale_rows=scale_rows)
    product = fp8_product(x, stored, scale)
    assert product.dtype is torch.float32
    assert relative_error(product, x @ weight.t()) < 0.06
    # Against the same rounded input the product is exact but for the order of the sums.
    x_scale = x.abs().max() / 448
    rounded = (x / x_scale).to(torch.float8_e4m3fn).float() * x_scale
    torch.testing.assert_close(product, rounded @ (stored.float() * scale).t(), rtol=1e-4, atol=1e-4)
    assert not fp8_product(torch.zeros_like(x), stored, scale).any()


@pytest.mark.parametrize("low_first", [True, False])
def test_product_in_four_bits_is_called_as_torch_wants(low_first: bool) -> None:
    """Sizes, dtypes, strides and swizzles are checked by torch also where no card is; the sums are not."""
    with FakeTensorMode():
        x = torch.zeros(300, 128, device="cuda", dtype=torch.bfloat16)
        packed = torch.zeros(96, 64, device="cuda", dtype=torch.uint8)
        scales = torch.zeros(128, 8, device="cuda", dtype=torch.float8_e4m3fn)
        y = nvfp4_product(x, packed, scales, torch.ones((), device="cuda"), low_nibble_first=low_first)
        assert (y.shape, y.dtype, y.device.type) == ((300, 96), torch.bfloat16, "cuda")


def emulated_nvfp4(a: Tensor, b: Tensor, scale_a: list[Tensor], *rest: object, **options: object) -> Tensor:
    """What the tensor cores compute of packed factors, from the formulas of the format."""
    scale_b = rest[1]
    assert isinstance(scale_b, list)
    factors = []
    for packed, (blocks, whole) in ((a, scale_a), (b.t(), scale_b)):
        tensors = {"weight": packed.view(torch.uint8), "weight_scale": blocks, "weight_scale_2": whole}
        shape = (packed.shape[0], packed.shape[1] * 2)
        source = source_of(tensors, shape, QuantFormat.NVFP4)
        factors.append(values(read_tensors(source, tensors.__getitem__, header_of(tensors)), torch.float32))
    return (factors[0] @ factors[1].t()).to(torch.bfloat16)


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("work_bytes", [1, dequantize.WORK_BYTES])
def test_layer_with_products_as_stored(to: QuantFormat, work_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dequantize, "WORK_BYTES", work_bytes)
    product = {QuantFormat.FP8_E4M3: Product.FP8, QuantFormat.NVFP4: Product.NVFP4}[to]
    monkeypatch.setattr(quantized_linear, "product_of", lambda *_: (product, "asked for"))
    if to is QuantFormat.NVFP4:
        monkeypatch.setattr(F, "scaled_mm", emulated_nvfp4)
    layer = layer_of(to, 96, 128)
    layer.rounds_input = True
    x = torch.randn(2, 150, 128)
    exact = F.linear(x, values(layer.stored, torch.float32), layer.bias)
    assert relative_error(layer(x), exact) < {Product.FP8: 0.03, Product.NVFP4: 0.11}[product]
    layer.rounds_input = False
    torch.testing.assert_close(layer(x), exact)


@pytest.mark.parametrize(
    ("capability", "form", "product"),
    [
        ((8, 6), QuantFormat.FP8_E4M3, Product.DEQUANTIZED),
        ((8, 9), QuantFormat.FP8_E4M3, Product.FP8),
        ((12, 0), QuantFormat.FP8_E4M3, Product.FP8),
        ((9, 0), QuantFormat.NVFP4, Product.DEQUANTIZED),
        ((10, 0), QuantFormat.NVFP4, Product.NVFP4),
        ((12, 0), QuantFormat.INT8, Product.DEQUANTIZED),
        ((12, 0), QuantFormat.FP8_E5M2, Product.DEQUANTIZED),
    ],
)
def test_choice_of_the_product(
    capability: tuple[int, int], form: QuantFormat, product: Product, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    chosen, why = product_of(torch.device("cuda"), form, (5120, 5120))
    assert chosen is product
    assert why
    assert product_of(torch.device("cuda"), form, (5120, 5110))[0] is Product.DEQUANTIZED
    assert product_of(CPU, form, (5120, 5120))[0] is Product.DEQUANTIZED


@pytest.mark.parametrize(("form", "limit"), [(WeightForm.FP8_SCALED, 0.04), (WeightForm.FP4_SCALED, 0.15)])
def test_the_embedded_model_with_all_its_large_layers_made_smaller(form: WeightForm, limit: float) -> None:
    files, inputs = find_model(MINI), (torch.randn(1, 8, 5, 16, 16), torch.tensor([700.0]), torch.randn(1, 32, 128))
    exact = load_transformer(files, CPU, torch.float32)(*inputs)
    model = load_transformer(files, CPU, torch.float32, form=form)
    text_embedding = 2 if form is WeightForm.FP8_SCALED else 0
    assert sum(isinstance(module, QuantizedLinear) for module in model.modules()) == 6 * 10 + text_embedding
    assert 0 < relative_error(model(*inputs), exact) <= limit
