"""Names and shapes of every tensor of the real checkpoints, held as the fingerprint of the published files."""

import hashlib
from collections.abc import Callable

import pytest
import torch
from torch import nn

from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.models.video_vae22 import VideoVae22, VideoVae22Config

T2V_14B = TransformerConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)


def fingerprint(model: nn.Module) -> str:
    """md5 over the sorted names and "name:d0_d1_..." strings, as DiffSynth-Studio recognises files by."""
    state = model.state_dict()
    shapes = [f"{name}:{'_'.join(map(str, tensor.shape))}" for name, tensor in state.items()]
    return hashlib.md5(",".join(sorted([*state, *shapes])).encode()).hexdigest()


@pytest.mark.parametrize(
    ("build", "published"),
    [
        (lambda: WanTransformer(TransformerConfig()), "9269f8db9040a9d860eaca435be61814"),
        (lambda: WanTransformer(T2V_14B), "aafcfd9672c3a2456dc46e1cb6e52c70"),
        (lambda: VideoVae(VideoVaeConfig()), "ccc42284ea13e1ad04693284c7a09be6"),
        (lambda: VideoVae22(VideoVae22Config()), "e1de6c02cdac79f8b739f4d3698cd216"),
        (lambda: TextEncoder(TextEncoderConfig()), "9c8818c2cbea55eca56c7b447df170da"),
    ],
    ids=["t2v-1.3B", "t2v-14B", "vae-2.1", "vae-2.2", "umt5-xxl"],
)
def test_names_and_shapes_are_the_published_ones(build: Callable[[], nn.Module], published: str) -> None:
    with torch.device("meta"):
        model = build()
    assert fingerprint(model) == published
