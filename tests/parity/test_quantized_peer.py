"""Stored weights against comfy_kitchen, which is what ComfyUI reads and writes them with."""

import dataclasses

import comfy_kitchen
import pytest
import torch
from comfy_kitchen.tensor import (
    TensorCoreFP8Layout,
    TensorCoreMXFP8Layout,
    TensorCoreNVFP4Layout,
    TensorWiseINT8Layout,
)
from torch import Tensor

from engine.weights.dequantize import values_of
from engine.weights.quantize import quantize_fp8, quantize_nvfp4
from engine.weights.source import QuantFormat
from tests.engine.weight_samples import KINDS, header_of, relative_error, source_of, weight_of

# Of rows and columns none, one or both are multiples of the blocks and tiles.
SHAPES = [(256, 512), (128, 64), (16, 16), (33, 48), (130, 100), (1, 1), (300, 7)]


def stored_by(layout: type, weight: Tensor, **options: bool) -> tuple[dict[str, Tensor], Tensor]:
    """What the peer stores of `weight` by the endings of the names, and the values that it reads back."""
    stored, params = layout.quantize(weight.float(), **options)  # type: ignore[attr-defined]
    read = layout.dequantize(stored, params)[: weight.shape[0], : weight.shape[1]]  # type: ignore[attr-defined]
    return {f"weight{end}": t for end, t in layout.state_dict_tensors(stored, params).items()}, read  # type: ignore[attr-defined]


def our_values(
    tensors: dict[str, Tensor], shape: tuple[int, ...], quantization: QuantFormat, *, rotation: int = 0
) -> Tensor:
    source = dataclasses.replace(source_of(tensors, shape, quantization), rotation=rotation)
    return values_of(source, tensors.__getitem__, header_of(tensors), torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("layout", "quantization"),
    [
        (TensorCoreFP8Layout, QuantFormat.FP8_E4M3),
        (TensorCoreMXFP8Layout, QuantFormat.MXFP8),
        (TensorCoreNVFP4Layout, QuantFormat.NVFP4),
        (TensorWiseINT8Layout, QuantFormat.INT8),
    ],
)
def test_we_read_what_the_peer_writes(layout: type, quantization: QuantFormat, shape: tuple[int, int]) -> None:
    weight = weight_of("heavy tails", max(shape), max(512, *shape))[: shape[0], : shape[1]]
    tensors, read = stored_by(layout, weight)
    assert torch.equal(our_values(tensors, shape, quantization), read)


def test_we_read_scales_of_e8m0_stored_as_bytes() -> None:
    tensors, read = stored_by(TensorCoreMXFP8Layout, weight_of("normal"))
    tensors["weight_scale"] = tensors["weight_scale"].view(torch.uint8)
    assert torch.equal(our_values(tensors, (256, 512), QuantFormat.MXFP8), read)


@pytest.mark.parametrize("group", [16, 64, 256])
def test_we_read_rotated_integers(group: int) -> None:
    weight = weight_of("outlier columns")
    stored, params = TensorWiseINT8Layout.quantize(
        weight.float(), per_channel=True, convrot=True, convrot_groupsize=group
    )
    tensors = {"weight": stored, "weight_scale": params.scale}
    ours = our_values(tensors, (256, 512), QuantFormat.INT8, rotation=group)
    torch.testing.assert_close(ours, TensorWiseINT8Layout.dequantize(stored, params), rtol=0, atol=1e-6)
    assert relative_error(ours, weight) < 0.012


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_peer_reads_our_nvfp4(kind: str, shape: tuple[int, int]) -> None:
    weight = weight_of(kind, *shape) if shape[1] > 100 else weight_of(kind, shape[0], 128)[:, : shape[1]]
    packed, scales, tensor_scale = quantize_nvfp4(weight)
    read = comfy_kitchen.dequantize_nvfp4(packed, tensor_scale, scales, torch.float32)[: shape[0], : shape[1]]
    tensors = {"weight": packed, "weight_scale": scales, "weight_scale_2": tensor_scale}
    assert torch.equal(our_values(tensors, shape, QuantFormat.NVFP4), read)
    assert relative_error(read, weight) <= 0.1


def test_the_peer_reads_our_fp8() -> None:
    weight = weight_of("normal")
    stored, scale = quantize_fp8(weight, scale_rows=False)
    read = comfy_kitchen.dequantize_per_tensor_fp8(stored, scale, torch.float32)
    assert relative_error(read, weight) <= 0.027


@pytest.mark.parametrize("kind", KINDS)
def test_our_scales_lose_less_than_the_peers(kind: str) -> None:
    weight = weight_of(kind)
    _, peer = stored_by(TensorCoreNVFP4Layout, weight)
    packed, scales, tensor_scale = quantize_nvfp4(weight)
    ours = comfy_kitchen.dequantize_nvfp4(packed, tensor_scale, scales, torch.float32)
    assert relative_error(ours, weight) < 0.97 * relative_error(peer, weight)
