"""Names and shapes of every tensor of the real checkpoints, as their manifests and published fingerprints have them."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from engine.models.image_encoder import ImageEncoder, ImageEncoderConfig
from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.models.video_vae22 import VideoVae22, VideoVae22Config
from tests.parity.official import DATA

Shapes = dict[str, list[int]]

T2V_14B = TransformerConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)
I2V_A14B = dataclasses.replace(T2V_14B, model_type="i2v", in_dim=36)
I2V_14B = dataclasses.replace(I2V_A14B, image_dim=1280)
FLF2V_14B = dataclasses.replace(I2V_14B, model_type="flf2v", image_positions=514)
TI2V_5B = TransformerConfig("ti2v", dim=3072, ffn_dim=14336, num_heads=24, in_dim=48, out_dim=48)

# Of the published file by DiffSynth-Studio, which recognises files so.
FINGERPRINTS = {
    "wan2.1_t2v_1.3B": "9269f8db9040a9d860eaca435be61814",
    "wan2.1_t2v_14B": "aafcfd9672c3a2456dc46e1cb6e52c70",
    "wan2.1_i2v_14B": "6bfcfb3b342cb286ce886889d519a77e",
    "wan2.1_flf2v_14B": "3ef3b1f8e1dab83d5b71fd7b617f859f",
    "wan2.2_t2v_A14B": "aafcfd9672c3a2456dc46e1cb6e52c70",
    "wan2.2_i2v_A14B": "5b013604280dd715f8457c6ed6d6a626",
    "wan2.2_ti2v_5B": "1f5ab7703c6fc803fdded85ff040c316",
    "wan2.1_vae": "ccc42284ea13e1ad04693284c7a09be6",
    "wan2.2_vae": "e1de6c02cdac79f8b739f4d3698cd216",
    "umt5_xxl_encoder_official": "9c8818c2cbea55eca56c7b447df170da",
    "clip_vit_h_visual": "5941c53e207d62f20f9025686193c40b",
}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "wan2.1_t2v_1.3B": lambda: WanTransformer(TransformerConfig()),
    "wan2.1_t2v_14B": lambda: WanTransformer(T2V_14B),
    "wan2.1_i2v_14B": lambda: WanTransformer(I2V_14B),
    "wan2.1_flf2v_14B": lambda: WanTransformer(FLF2V_14B),
    "wan2.2_t2v_A14B": lambda: WanTransformer(T2V_14B),
    "wan2.2_i2v_A14B": lambda: WanTransformer(I2V_A14B),
    "wan2.2_ti2v_5B": lambda: WanTransformer(TI2V_5B),
    "wan2.1_vae": lambda: VideoVae(VideoVaeConfig()),
    "wan2.2_vae": lambda: VideoVae22(VideoVae22Config()),
    "umt5_xxl_encoder_official": lambda: TextEncoder(TextEncoderConfig()),
}
CLIP = "clip_vit_h_visual"


def manifest(checkpoint: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DATA / f"{checkpoint}.json").read_text("utf-8"))
    return content


def shapes_of(build: Callable[[], nn.Module]) -> Shapes:
    """Every tensor of a network that is built without memory."""
    with torch.device("meta"):
        return {name: list(tensor.shape) for name, tensor in build().state_dict().items()}


def fingerprint(shapes: Shapes) -> str:
    """md5 over the sorted names and "name:d0_d1_..." strings."""
    described = [f"{name}:{'_'.join(map(str, shape))}" for name, shape in shapes.items()]
    return hashlib.md5(",".join(sorted([*shapes, *described])).encode()).hexdigest()


@pytest.mark.parametrize("checkpoint", NETWORKS)
def test_names_and_shapes_are_the_published_ones(checkpoint: str) -> None:
    shapes = shapes_of(NETWORKS[checkpoint])
    assert shapes == manifest(checkpoint)["tensors"]
    assert fingerprint(shapes) == FINGERPRINTS[checkpoint]


def test_the_image_encoder_is_the_published_one_without_its_end() -> None:
    """The last block and what follows it only serve to match pictures with texts."""
    shapes, published = shapes_of(lambda: ImageEncoder(ImageEncoderConfig())), manifest(CLIP)["tensors"]
    beyond = [name for name in published if name not in shapes]
    assert shapes == {name: shape for name, shape in published.items() if name not in beyond}
    ends = ("visual.transformer.31.", "visual.post_norm.", "visual.head")
    assert {next(end for end in ends if name.startswith(end)) for name in beyond} == set(ends)
    assert fingerprint(published | text_tower()) == FINGERPRINTS[CLIP]


def text_tower() -> Shapes:
    """The tensors of the published CLIP file that its manifest only lists by kind."""
    shapes: Shapes = {}
    for name, shape in manifest(CLIP)["other_tensors_in_same_file"]["shapes"].items():
        numbers = (0, 2) if name.startswith("textual.head.") else range(24)
        shapes |= {name.replace(".N.", f".{number}."): shape for number in numbers}
    return shapes


def test_a_pruned_vae_is_a_narrow_one() -> None:
    """Files without three of every four channels: all widths, multiples of 96, are quarters; latents are as ever."""
    whole: Shapes = manifest("wan2.1_vae")["tensors"]
    quarters = {name: [size if size % 96 else size // 4 for size in shape] for name, shape in whole.items()}
    assert shapes_of(lambda: VideoVae(VideoVaeConfig(dim=24))) == quarters
