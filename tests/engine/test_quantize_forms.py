"""Values of every stored form, against the formulas written out element by element; damaged parts are refused."""

import dataclasses

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engine.models.quantized_linear import QuantizedLinear
from engine.weights import dequantize
from engine.weights.block_scales import swizzle, swizzled_shape, unswizzle
from engine.weights.dequantize import StoredTensors, check_tensors, read_tensors, row_blocks, rows_of, values, values_of
from engine.weights.header import TensorInfo
from engine.weights.source import Part, QuantFormat, WeightSource
from tests.engine.weight_samples import header_of, source_of

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
QUARTER_ROTATION = torch.tensor([[1.0, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]]) / 2


@pytest.fixture(autouse=True)
def _same_numbers_each_time() -> None:
    torch.manual_seed(0)


def values_in(
    tensors: dict[str, Tensor],
    shape: tuple[int, ...],
    form: QuantFormat | None,
    *,
    rotation: int = 0,
    low_nibble_first: bool = False,
) -> Tensor:
    plain = source_of(tensors, shape, form)
    source = dataclasses.replace(plain, rotation=rotation, low_nibble_first=low_nibble_first)
    return values_of(source, tensors.__getitem__, header_of(tensors), torch.float32)


def random_bytes(*shape: int, below: int = 256) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(3), dtype=torch.uint8)


def swizzled_offset(row: int, column: int, padded_columns: int) -> int:
    tile = (row // 128) * (padded_columns // 4) + column // 4
    return tile * 512 + (row % 32) * 16 + ((row % 128) // 32) * 4 + column % 4


def nvfp4_sample(rows: int, columns: int) -> tuple[dict[str, Tensor], tuple[int, int]]:
    padded_rows, padded_columns = -(-rows // 16) * 16, -(-columns // 16) * 16
    scale_shape = swizzled_shape(padded_rows, padded_columns // 16)
    tensors = {
        "weight": random_bytes(padded_rows, padded_columns // 2),
        "weight_scale": random_bytes(*scale_shape, below=126).view(torch.float8_e4m3fn),
        "weight_scale_2": torch.tensor(0.37),
    }
    return tensors, (rows, columns)


@pytest.mark.parametrize("low_first", [False, True])
@pytest.mark.parametrize("shape", [(5, 40), (130, 70), (16, 16)])
def test_nvfp4_element_by_element(shape: tuple[int, int], low_first: bool) -> None:
    tensors, _ = nvfp4_sample(*shape)
    read = values_in(tensors, shape, QuantFormat.NVFP4, low_nibble_first=low_first)
    scales = tensors["weight_scale"].flatten().float()
    for row, column in [(0, 0), (0, 1), (4, 39), (shape[0] - 1, shape[1] - 1), (shape[0] // 2, shape[1] // 2)]:
        row, column = min(row, shape[0] - 1), min(column, shape[1] - 1)
        byte = int(tensors["weight"][row, column // 2])
        code = byte >> 4 if (column % 2 == 0) != low_first else byte & 15
        scale = scales[swizzled_offset(row, column // 16, tensors["weight_scale"].shape[1])] * 0.37
        expected = E2M1[code & 7] * float(scale) * (-1 if code & 8 else 1)
        assert read[row, column].item() == pytest.approx(expected, rel=1e-6)


def test_lightx2v_multiplies_by_the_scale_of_the_input() -> None:
    tensors, shape = nvfp4_sample(20, 32)
    plain = values_in(tensors, shape, QuantFormat.NVFP4, low_nibble_first=True)
    tensors["input_scale"] = torch.tensor([8.0])
    assert torch.equal(values_in(tensors, shape, QuantFormat.NVFP4, low_nibble_first=True), plain * 8)
    comfy = values_in(tensors, shape, QuantFormat.NVFP4)
    del tensors["input_scale"]
    assert torch.equal(comfy, values_in(tensors, shape, QuantFormat.NVFP4))


def test_the_scale_of_the_input_goes_into_the_columns() -> None:
    tensors, shape = nvfp4_sample(20, 32)
    plain = values_in(tensors, shape, QuantFormat.NVFP4)
    tensors["pre_quant_scale"] = torch.linspace(0.5, 2, 32).bfloat16()
    scaled = values_in(tensors, shape, QuantFormat.NVFP4)
    assert torch.equal(scaled, plain * tensors["pre_quant_scale"].float())


@given(st.integers(1, 300), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_swizzle_is_the_documented_order_and_undone(rows: int, columns: int) -> None:
    scales = random_bytes(rows, columns)
    stored = swizzle(scales)
    assert stored.shape == swizzled_shape(rows, columns)
    row, column = rows - 1, columns - 1
    assert stored.flatten()[swizzled_offset(row, column, stored.shape[1])] == scales[row, column]
    assert torch.equal(unswizzle(stored, rows, columns), scales)
    assert int(stored.sum()) == int(scales.sum())


@pytest.mark.parametrize("scale_shape", [(), (1,), (6,), (6, 1), (1, 1)])
@pytest.mark.parametrize("form", [QuantFormat.FP8_E4M3, QuantFormat.FP8_E5M2, QuantFormat.INT8])
def test_scales_of_all_shapes(form: QuantFormat, scale_shape: tuple[int, ...]) -> None:
    weight = torch.linspace(-100, 100, 24).view(6, 4).to(dequantize.STORED_DTYPES[form])
    scale = torch.rand(scale_shape) + 0.5
    read = values_in({"weight": weight, "weight_scale": scale}, (6, 4), form)
    for row in range(6):
        factor = scale.flatten()[row if scale.numel() == 6 else 0]
        assert torch.equal(read[row], weight[row].float() * factor)


def test_fp8_without_a_scale_is_a_plain_cast() -> None:
    weight = torch.linspace(-400, 400, 24).view(6, 4).to(torch.float8_e4m3fn)
    assert torch.equal(values_in({"weight": weight}, (6, 4), None), weight.float())
    assert torch.equal(values_in({"weight": weight}, (6, 4), QuantFormat.FP8_E4M3), weight.float())


def test_mxfp8_element_by_element() -> None:
    stored = torch.linspace(-400, 400, 64 * 64).view(64, 64).to(torch.float8_e4m3fn)
    scales = random_bytes(*swizzled_shape(64, 2), below=160)
    scales.view(-1)[0] = 0
    read = values_in({"weight": stored, "weight_scale": scales}, (50, 40), QuantFormat.MXFP8)
    for row, column in [(0, 0), (0, 39), (49, 0), (33, 32)]:
        exponent = int(scales.flatten()[swizzled_offset(row, column // 32, 4)])
        power = 2.0 ** (exponent - 127) if exponent else 0.0
        assert read[row, column].item() == float(stored[row, column]) * power


def test_rotated_groups() -> None:
    weight, scale = torch.randint(-127, 128, (3, 32), dtype=torch.int8), torch.tensor([[0.1], [0.2], [0.3]])
    read = values_in({"weight": weight, "weight_scale": scale}, (3, 32), QuantFormat.INT8, rotation=16)
    rotation = torch.kron(QUARTER_ROTATION, QUARTER_ROTATION)
    expected = torch.cat([(weight.float() * scale)[:, i : i + 16] @ rotation for i in (0, 16)], dim=1)
    torch.testing.assert_close(read, expected)


def test_plain_values_are_not_copied_and_take_the_wanted_shape() -> None:
    stored = torch.randn(6, 8)
    assert values_in({"weight": stored}, (1, 6, 8), None).data_ptr() == stored.data_ptr()


def test_pieces_are_joined() -> None:
    tensors = {name: torch.randn(2, 3).half() for name in "qkv"}
    pieces = tuple(WeightSource(name, (2, 3)) for name in "qkv")
    source = WeightSource("", (6, 3), pieces=pieces)
    read = values_of(source, tensors.__getitem__, header_of(tensors), torch.float32)
    assert torch.equal(read, torch.cat([tensors[name] for name in "qkv"]).float())


def forms() -> dict[str, tuple[dict[str, Tensor], tuple[int, int], QuantFormat]]:
    """One weight of each form whose rows are no multiple of anything."""
    nvfp4, shape = nvfp4_sample(300, 64)
    powers = random_bytes(*swizzled_shape(320, 2), below=200)
    floats = torch.randn(320, 64)
    return {
        "nvfp4": (nvfp4, shape, QuantFormat.NVFP4),
        "fp8": ({"weight": floats.to(torch.float8_e4m3fn), "weight_scale": torch.rand(320, 1)}, (320, 64),
                QuantFormat.FP8_E4M3),
        "int8": ({"weight": random_bytes(300, 64).view(torch.int8), "weight_scale": torch.rand(300)}, (300, 64),
                 QuantFormat.INT8),
        "mxfp8": ({"weight": floats.to(torch.float8_e4m3fn), "weight_scale": powers},
                  (300, 50), QuantFormat.MXFP8),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "Q5_1", "F16"])
def test_blocks_of_gguf(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dequantize, "WORK_BYTES", 1)
    weight = torch.randn(300, 64)
    blocks = gguf.quants.quantize(weight.numpy(), gguf.GGMLQuantizationType[kind]).view("uint8")
    exact = torch.from_numpy(gguf.quants.dequantize(blocks.view("float16") if kind == "F16" else blocks,
                                                    gguf.GGMLQuantizationType[kind]))  # fmt: skip
    stored = torch.from_numpy(blocks)
    source = WeightSource("weight", (300, 64), QuantFormat.GGUF)
    header = {"weight": TensorInfo(kind, (300, 64), stored.nbytes)}
    assert torch.equal(values_of(source, lambda _: stored, header, torch.float32), exact.float())
    layer = QuantizedLinear(read_tensors(source, lambda _: stored, header), None)
    x = torch.randn(5, 64)
    torch.testing.assert_close(layer(x), x @ exact.float().t())
    with pytest.raises(ValueError, match=r"^weight"):
        check_tensors(read_tensors(source, lambda _: stored[:-1], header))


def stored_weight(name: str) -> StoredTensors:
    tensors, shape, form = forms()[name]
    return read_tensors(source_of(tensors, shape, form), tensors.__getitem__, header_of(tensors))


@pytest.mark.parametrize("name", forms())
def test_rows_alone_are_as_among_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dequantize, "WORK_BYTES", 1)
    stored = stored_weight(name)
    whole = values(stored, torch.bfloat16)
    blocks = list(row_blocks(*stored.source.shape))
    assert len(blocks) == 3
    pieces = [values(rows_of(stored, start, stop), torch.bfloat16) for start, stop in blocks]
    assert torch.equal(torch.cat(pieces), whole)


@pytest.mark.parametrize("name", forms())
@pytest.mark.parametrize("fault", ["fewer rows", "another dtype", "cut scales", "no scale", "another shape", "1-D"])
def test_what_does_not_fit_is_refused_by_name(name: str, fault: str) -> None:
    tensors, shape, form = forms()[name]
    if fault == "no scale" and form is QuantFormat.FP8_E4M3:
        return
    match fault:
        case "fewer rows":
            tensors["weight"] = tensors["weight"][:100]
        case "another dtype":
            tensors["weight"] = tensors["weight"].float()
        case "cut scales":
            tensors["weight_scale"] = tensors["weight_scale"][:-1]
        case "no scale":
            del tensors["weight_scale"]
        case "another shape":
            shape = (shape[0], shape[1] + 64)
        case "1-D":
            tensors["weight"] = tensors["weight"].flatten()
    with pytest.raises(ValueError, match=r"^weight"):
        check_tensors(read_tensors(source_of(tensors, shape, form), tensors.__getitem__, header_of(tensors)))


@pytest.mark.parametrize("part", [Part.WEIGHT_SCALE_2, Part.PRE_QUANT_SCALE])
def test_other_parts_that_do_not_fit(part: Part) -> None:
    tensors, shape = nvfp4_sample(32, 32)
    for wrong in (torch.rand(7), torch.ones(32, dtype=torch.int8)):
        with pytest.raises(ValueError, match=r"^weight"):
            values_in(tensors | {part: wrong}, shape, QuantFormat.NVFP4)
