"""Names of LoRA tensors in every spelling, over all layers of the models, and against diffusers' converters."""

import json
import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from diffusers.loaders import lora_conversion_utils

from engine.weights.lora.names import NameMap, Part, Place, diffusers_name
from engine.weights.names import official_names
from tests.parity.official import DATA, RENAMES

MODELS = ("wan2.1_i2v_14B", "wan2.1_flf2v_14B", "wan2.1_t2v_1.3B", "wan2.2_ti2v_5B", "wan2.2_i2v_A14B")


@cache
def shapes_of(model: str) -> dict[str, tuple[int, ...]]:
    tensors = json.loads((DATA / f"{model}.json").read_text("utf-8"))["tensors"]
    return {name: tuple(shape) for name, shape in tensors.items()}


def linear_layers(model: str) -> list[str]:
    """Everything that a low-rank change can be of: the linear layers and the patch embedding."""
    return [name.removesuffix(".weight") for name, shape in shapes_of(model).items()
            if name.endswith(".weight") and len(shape) > 1]  # fmt: skip


def in_diffusers(layer: str) -> str:
    """By the table that was checked against diffusers, not by the engine's own."""
    name = f"{layer}.weight"
    for pattern, replacement in RENAMES["transformer"]:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name).removesuffix(".weight")
    return layer


def underscored(layer: str) -> str:
    return layer.replace(".", "_")


OFFICIAL_PREFIXES = ("", "diffusion_model.", "model.diffusion_model.", "pipe.dit.", "base_model.model.")
SPELLINGS: dict[str, Callable[[str], str]] = {
    **{f"{prefix}blocks": prefix.__add__ for prefix in OFFICIAL_PREFIXES},
    "peft of a prefixed model": lambda layer: f"base_model.model.diffusion_model.{layer}",
    "kohya": lambda layer: f"lora_unet_{underscored(layer)}",
    "kohya, two underscores": lambda layer: f"lora_unet__{underscored(layer)}",
    "lycoris": lambda layer: f"lycoris_{underscored(layer)}",
    "diffusers": lambda layer: f"transformer.{in_diffusers(layer)}",
    "diffusers, bare": in_diffusers,
    "diffusers, peft": lambda layer: f"base_model.model.{in_diffusers(layer)}",
    "diffusers, kohya": lambda layer: f"lora_unet_{underscored(in_diffusers(layer))}",
}
PAIRS = {
    ".lora_up.weight": Part.UP, ".lora_down.weight": Part.DOWN, ".lora_B.weight": Part.UP, ".lora_A.weight": Part.DOWN,
    ".lora_B.default.weight": Part.UP, ".lora_A.default.weight": Part.DOWN, "_lora.up.weight": Part.UP,
    "_lora.down.weight": Part.DOWN, ".lora.up.weight": Part.UP, ".lora.down.weight": Part.DOWN,
    ".lora_linear_layer.up.weight": Part.UP, ".lora_linear_layer.down.weight": Part.DOWN, ".alpha": Part.ALPHA,
    ".lora_mid.weight": Part.MID, ".diff": Part.DIFF, ".dora_scale": Part.MAGNITUDE, ".hada_w1_a": Part.HADA_W1_A,
    ".hada_t2": Part.HADA_T2, ".lokr_w1": Part.LOKR_W1, ".lokr_w2_b": Part.LOKR_W2_B, ".lokr_t2": Part.LOKR_T2,
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_linear_layer_in_every_spelling(spelling: str) -> None:
    names = NameMap(shapes_of("wan2.1_i2v_14B"))
    layers = linear_layers("wan2.1_i2v_14B")
    assert len(layers) == 40 * 12 + 9
    for layer in layers:
        for ending, part in PAIRS.items():
            assert names.locate(SPELLINGS[spelling](layer) + ending) == Place(f"{layer}.weight", part)


@pytest.mark.parametrize("model", MODELS)
def test_every_linear_layer_of_every_model(model: str) -> None:
    names = NameMap(shapes_of(model))
    for spell in SPELLINGS.values():
        for layer in linear_layers(model):
            assert names.locate(f"{spell(layer)}.lora_down.weight") == Place(f"{layer}.weight", Part.DOWN)


@pytest.mark.parametrize("model", MODELS)
def test_differences_of_every_parameter(model: str) -> None:
    names = NameMap(shapes_of(model))
    for name in shapes_of(model):
        layer, _, last = name.rpartition(".")
        ending = {"weight": ".diff", "bias": ".diff_b", "modulation": ".diff_m"}.get(last)
        stored = f"{name}.diff" if ending is None else layer + ending
        assert names.locate(f"diffusion_model.{stored}") == Place(name, Part.DIFF)
        assert names.locate(f"transformer.{diffusers_name(name)}.diff") == Place(name, Part.DIFF)


@pytest.mark.parametrize(
    ("stored", "layer", "part"),
    [
        ("base_model.model.blocks.3.attn1.to_q.lora_magnitude_vector.default", "self_attn.q", Part.MAGNITUDE),
        ("transformer.blocks.3.attn2.to_k.lora_magnitude_vector.default.weight", "cross_attn.k", Part.MAGNITUDE),
        ("transformer.blocks.3.attn1.processor.to_v_lora.up.weight", "self_attn.v", Part.UP),
        ("transformer.blocks.3.attn1.processor.to_out_lora.down.weight", "self_attn.o", Part.DOWN),
        ("transformer.blocks.3.attn2.to_out.0.lora_A.weight", "cross_attn.o", Part.DOWN),
        ("lycoris_blocks_3_norm3.w_norm", "norm3", Part.DIFF),
    ],
)
def test_spellings_of_single_programs(stored: str, layer: str, part: Part) -> None:
    assert NameMap(shapes_of("wan2.1_i2v_14B")).locate(stored) == Place(f"blocks.3.{layer}.weight", part)


@pytest.mark.parametrize(
    "ending", ["blocks.3.attn1.to_q.lora_B.bias", "blocks.3.self_attn.q.lora_up.bias", "blocks.3.self_attn.q.b_norm"]
)
def test_spellings_of_a_bias(ending: str) -> None:
    names = NameMap(shapes_of("wan2.1_i2v_14B"))
    assert names.locate(f"transformer.{ending}") == Place("blocks.3.self_attn.q.bias", Part.DIFF)


@pytest.mark.parametrize("model", MODELS)
def test_spellings_are_never_ambiguous(model: str) -> None:
    for spell in (underscored, diffusers_name, lambda layer: underscored(diffusers_name(layer))):
        layers = linear_layers(model)
        assert len({spell(layer) for layer in layers}) == len(layers)


def test_checkpoints_of_diffusers_are_named_back() -> None:
    """The other direction, which reading whole models takes, is the same table."""
    shapes = shapes_of("wan2.1_flf2v_14B")
    stored = {diffusers_name(name): name for name in shapes}
    assert official_names(stored).official == stored


def pairs_of(layers: list[str], spell: Callable[[str], str], up: str, down: str) -> dict[str, torch.Tensor]:
    """Low-rank pairs of rank 2 whose values tell which layer they were stored for."""
    tensors = {}
    for number, layer in enumerate(layers):
        tensors[f"{spell(layer)}.{up}.weight"] = torch.full((3, 2), float(number))
        tensors[f"{spell(layer)}.{down}.weight"] = torch.full((2, 3), float(number))
    return tensors


def assert_same_as_converted(stored: dict[str, torch.Tensor], converted: dict[str, torch.Tensor], model: str) -> None:
    """Every layer gets the same numbers by our reading of `stored` and of what diffusers made of it."""

    def by_place(tensors: dict[str, torch.Tensor]) -> dict[Place | None, float]:
        places = {names.locate(name): tensor.view(-1)[0].item() for name, tensor in tensors.items()}
        return {place: value for place, value in places.items() if place is None or place.part is not Part.ALPHA}

    names = NameMap(shapes_of(model))
    assert None not in by_place(stored)
    assert by_place(stored) == by_place(converted)


@pytest.mark.parametrize("model", ["wan2.1_i2v_14B", "wan2.1_t2v_1.3B"])
@pytest.mark.parametrize(("up", "down"), [("lora_up", "lora_down"), ("lora_B", "lora_A")])
def test_same_layers_as_diffusers_finds(model: str, up: str, down: str) -> None:
    layers = [layer for layer in linear_layers(model) if layer != "patch_embedding"]  # which diffusers refuses
    stored = pairs_of(layers, lambda layer: f"diffusion_model.{layer}", up, down)
    converted = lora_conversion_utils._convert_non_diffusers_wan_lora_to_diffusers(dict(stored))
    assert_same_as_converted(stored, converted, model)


@pytest.mark.parametrize("model", ["wan2.1_i2v_14B", "wan2.1_t2v_1.3B"])
def test_same_layers_as_diffusers_finds_in_kohya_files(model: str) -> None:
    layers = [layer for layer in linear_layers(model) if layer.startswith("blocks.")]  # it knows no others
    stored = pairs_of(layers, lambda layer: f"lora_unet_{underscored(layer)}", "lora_up", "lora_down")
    stored |= {f"lora_unet_{underscored(layer)}.alpha": torch.tensor(2.0) for layer in layers}
    converted = lora_conversion_utils._convert_musubi_wan_lora_to_diffusers(dict(stored))
    assert_same_as_converted(stored, converted, model)
