"""Names and shapes computed from sizes are those of our networks, of peers' and of the checkpoints, at any size."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from engine.models.image_encoder import ImageEncoder, ImageEncoderConfig
from engine.models.preview_decoder import PreviewDecoder, PreviewDecoderConfig
from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.models.video_vae22 import VideoVae22, VideoVae22Config
from engine.weights import card
from engine.weights.expected import (
    Shapes,
    image_encoder_shapes,
    image_encoder_unused,
    text_encoder_shapes,
    transformer_shapes,
)
from engine.weights.expected_preview import preview_encoder_shapes, preview_shapes, preview_sizes
from engine.weights.expected_vae import vae_shapes, vae_sizes
from engine.weights.names import official_names
from engine.weights.quantize import quantize_weight
from engine.weights.sizes import image_encoder_sizes, text_encoder_sizes, transformer_sizes
from engine.weights.source import QuantFormat
from tests.engine.manifests import shapes

SMALL = st.integers(1, 5)


def state(build: Any, *arguments: Any) -> Shapes:  # noqa: ANN401 - any network
    with torch.device("meta"):
        model: nn.Module = build(*arguments)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@given(SMALL, SMALL, SMALL, SMALL, SMALL, st.booleans(), st.booleans())
@settings(deadline=None, max_examples=20)
def test_transformers(dim: int, ffn_dim: int, layers: int, in_dim: int, out_dim: int, image: bool, both: bool) -> None:
    config = TransformerConfig(
        dim=12 * dim, ffn_dim=ffn_dim, num_heads=1, num_layers=layers, in_dim=in_dim, out_dim=out_dim, freq_dim=8,
        text_dim=7, patch_size=(1, 3, 2), image_dim=6 if image else 0, image_positions=10 if image and both else 0,
    )  # fmt: skip
    built = state(WanTransformer, config)
    assert transformer_shapes(transformer_sizes(built)) == built


@given(SMALL, SMALL, SMALL, SMALL)
@settings(deadline=None, max_examples=10)
def test_text_encoders(dim: int, heads: int, ffn_dim: int, layers: int) -> None:
    built = state(TextEncoder, TextEncoderConfig(11, dim, 2 * heads, ffn_dim, heads, layers, 6))
    assert text_encoder_shapes(text_encoder_sizes(built)) == built


@given(st.lists(SMALL, min_size=1, max_size=4), st.integers(1, 3), st.data())
@settings(deadline=None, max_examples=20)
def test_vaes(mult: list[int], blocks: int, data: st.DataObject) -> None:
    temporal = tuple(data.draw(st.lists(st.booleans(), min_size=len(mult) - 1, max_size=len(mult) - 1)))
    config = VideoVaeConfig(4, 3, tuple(mult), blocks, temporal)
    built = state(VideoVae, config)
    assert vae_shapes(vae_sizes(built)) == built


@pytest.mark.parametrize("dims", [(160, 256), (16, 32), (8, 8)])
def test_vaes_in_stages(dims: tuple[int, int]) -> None:
    built = state(VideoVae22, VideoVae22Config(dim=dims[0], decoder_dim=dims[1]))
    assert vae_shapes(vae_sizes(built)) == built


@pytest.mark.parametrize("is_super", [False, True])
@pytest.mark.parametrize("patch", [1, 2])
def test_preview_decoders(is_super: bool, patch: int) -> None:
    built = state(PreviewDecoder, PreviewDecoderConfig(5, patch, (24, 12, 6, 3), is_super))
    assert preview_shapes(preview_sizes(built)) == built


def test_image_encoders() -> None:
    """The network is what the files hold less what is named unused."""
    built = state(ImageEncoder, ImageEncoderConfig())
    sizes = image_encoder_sizes(shapes("clip_vit_h_visual"))
    unused = image_encoder_unused(sizes)
    assert {name: shape for name, shape in image_encoder_shapes(sizes).items() if name not in unused} == built


def test_encoders_of_previews_are_those_of_the_files() -> None:
    for name in ("taew2_1", "taew2_2", "taew2_2_super"):
        stored = shapes(name)
        sizes = preview_sizes(stored)
        assert preview_shapes(sizes) | preview_encoder_shapes(sizes) == stored


def test_names_and_shapes_of_transformers_own_clip() -> None:
    """The peer's network, built by itself: every tensor it has is a parameter or a piece of one."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2,
                              projection_dim=4, image_size=28, patch_size=14)  # fmt: skip
    theirs = state(CLIPVisionModelWithProjection, config)
    stored = {name: theirs[stored] for stored, name in official_names(theirs).official.items()}
    expected = image_encoder_shapes(image_encoder_sizes(stored))
    for name in [name for name in expected if ".to_qkv." in name]:
        assert expected.pop(name)[0] == sum(stored.pop(name.replace("to_qkv", f"to_{letter}"))[0] for letter in "qkv")
    assert set(stored) - set(expected) == {"visual_projection.weight"}
    assert set(expected) - set(stored) == {"visual.head"}


def test_names_and_shapes_of_transformers_own_umt5() -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(vocab_size=20, d_model=8, d_kv=3, d_ff=12, num_layers=2, num_heads=4,
                        feed_forward_proj="gated-gelu")  # fmt: skip
    theirs = state(UMT5EncoderModel, config)
    stored = {official: theirs[name] for name, official in official_names(theirs).official.items()}
    stored.pop("encoder.embed_tokens.weight", None)
    assert text_encoder_shapes(text_encoder_sizes(stored)) == stored


def test_names_and_shapes_of_diffusers_own_transformer() -> None:
    from diffusers import WanTransformer3DModel

    def build() -> nn.Module:
        model: nn.Module = WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=12, in_channels=36, out_channels=16, text_dim=10, freq_dim=8,
            ffn_dim=20, num_layers=2, image_dim=14, added_kv_proj_dim=24, pos_embed_seq_len=6,
        )  # fmt: skip
        return model

    theirs = state(build)
    stored = {official: theirs[name] for name, official in official_names(theirs).official.items()}
    assert transformer_shapes(transformer_sizes(stored)) == stored


@pytest.mark.parametrize("shape", [(16, 16), (7, 33), (130, 80), (256, 64)])
def test_bytes_on_the_card_are_those_of_a_quantised_weight(shape: tuple[int, int]) -> None:
    def stored_bytes(form: QuantFormat) -> int:
        weight = quantize_weight(torch.ones(shape), form)
        return sum(tensor.nbytes for tensor in (weight.data, *weight.parts.values()))

    assert card.fp8_bytes(shape) == stored_bytes(QuantFormat.FP8_E4M3)
    assert card.fp4_bytes(shape) == stored_bytes(QuantFormat.NVFP4)
