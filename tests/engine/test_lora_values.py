"""The values of every form of change, against sums over indices written out with numpy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.errors import EngineError, ErrorCode
from engine.weights.lora.deltas import change_of
from engine.weights.lora.file import parse_lora
from tests.engine.lora_cases import KINDS, checkpoint_of, expected_change, random, tensors_of

LAYER = "blocks.0.ffn.0"
SHAPES = [(6, 8), (6, 8, 1, 2, 2), (8, 8)]


def changed(tensors: dict[str, Tensor], base: Tensor) -> Tensor:
    """What a file with these `tensors` adds to the weight `base` of the layer."""
    lora = parse_lora(checkpoint_of(tensors), {f"{LAYER}.weight": tuple(base.shape)})
    assert not lora.unmatched
    assert not lora.skipped
    return change_of(lora.delta(f"{LAYER}.weight"), base)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_form(kind: str, shape: tuple[int, ...]) -> None:
    tensors = tensors_of(kind, LAYER, shape)
    expected = expected_change(kind, tensors, LAYER, shape)
    found = changed(tensors, torch.zeros(shape)).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())


def test_without_alpha_the_scale_is_one() -> None:
    tensors = tensors_of("lora", LAYER, (6, 8), alpha=None)
    found = changed(tensors, torch.zeros(6, 8))
    torch.testing.assert_close(found, tensors[f"{LAYER}.lora_up.weight"] @ tensors[f"{LAYER}.lora_down.weight"])


@pytest.mark.parametrize("alpha", [torch.tensor(6), torch.tensor([6.0]), torch.tensor([[6.0]], dtype=torch.float16)])
def test_alpha_in_every_form(alpha: Tensor) -> None:
    tensors = tensors_of("lora", LAYER, (6, 8), alpha=None)
    plain = changed(tensors, torch.zeros(6, 8))
    torch.testing.assert_close(changed(tensors | {f"{LAYER}.alpha": alpha}, torch.zeros(6, 8)), 2 * plain)


def test_a_flattened_convolution() -> None:
    shape = (6, 8, 1, 2, 2)
    tensors = tensors_of("lora", LAYER, shape)
    flat = {name: tensor.flatten(1) if tensor.ndim else tensor for name, tensor in tensors.items()}
    assert torch.equal(changed(flat, torch.zeros(shape)), changed(tensors, torch.zeros(shape)))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_stored_dtypes(dtype: torch.dtype) -> None:
    """The values are those that were stored; the product is made of them in float32."""
    tensors = {name: tensor.to(dtype) for name, tensor in tensors_of("lora", LAYER, (6, 8)).items()}
    exact = {name: tensor.float() for name, tensor in tensors.items()}
    assert torch.equal(changed(tensors, torch.zeros(6, 8)), changed(exact, torch.zeros(6, 8)))


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_row", [True, False])
def test_dora(kind: str, shape: tuple[int, ...], per_row: bool) -> None:
    """W' = (W + d) * magnitude / norm(W + d), norms over all that one magnitude is for."""
    tensors = tensors_of(kind, LAYER, shape)
    others = [1] * (len(shape) - 2)
    magnitude = random(shape[0], 1, *others) if per_row else random(1, shape[1], *others)
    base = random(*shape) * 2
    found = changed(tensors | {f"{LAYER}.dora_scale": magnitude.abs()}, base)
    moved = base.double().numpy() + expected_change(kind, tensors, LAYER, shape)
    axes = tuple(i for i in range(len(shape)) if i != (0 if per_row else 1))
    norm = np.sqrt((moved**2).sum(axis=axes, keepdims=True))
    expected = moved * magnitude.abs().double().numpy() / norm - base.double().numpy()
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", ["lora_magnitude_vector", "lora_magnitude_vector.weight", "dora_scale"])
def test_dora_as_a_vector_is_per_row(name: str) -> None:
    tensors = tensors_of("lora", LAYER, (8, 8))
    base, magnitude = random(8, 8), random(8).abs()
    as_vector = changed(tensors | {f"{LAYER}.{name}": magnitude}, base)
    assert torch.equal(as_vector, changed(tensors | {f"{LAYER}.dora_scale": magnitude[:, None]}, base))


def test_dora_of_a_row_of_zeros_stays_finite() -> None:
    tensors = {name: torch.zeros_like(tensor) for name, tensor in tensors_of("lora", LAYER, (6, 8)).items()}
    tensors[f"{LAYER}.dora_scale"] = torch.ones(6, 1)
    assert changed(tensors, torch.zeros(6, 8)).eq(0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["lora_up.weight", "lora_down.weight", "alpha", "dora_scale"])
def test_values_that_are_not_finite(name: str, value: float) -> None:
    tensors = tensors_of("lora", LAYER, (6, 8)) | {f"{LAYER}.dora_scale": torch.ones(6, 1)}
    tensors[f"{LAYER}.{name}"].view(-1)[-1] = value
    with pytest.raises(EngineError) as caught:
        changed(tensors, torch.zeros(6, 8))
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert f"{LAYER}.{name}" in str(caught.value.details["reason"])


def test_a_difference_of_a_modulation_without_its_batch_dim() -> None:
    shapes = {"blocks.0.modulation": (1, 6, 4)}
    for stored in (random(1, 6, 4), random(1, 6, 4)[0]):
        lora = parse_lora(checkpoint_of({"diffusion_model.blocks.0.diff_m": stored}), shapes)
        found = change_of(lora.delta("blocks.0.modulation"), torch.zeros(1, 6, 4))
        assert torch.equal(found, random(1, 6, 4))
