"""The transformers that also attend to images, against recorded outputs of the official code and against diffusers."""

import dataclasses

import pytest
import torch
from torch import Tensor

from engine.models.float32_islands import keeps_float32
from engine.models.transformer import TransformerConfig, WanTransformer
from tests.parity.fill import filled
from tests.parity.official import VECTORS, assert_close, assert_recorded
from tests.parity.transformer_twin import NARROW, TINY, diffusers_twin, filled_transformer, silent_parameters

RECORDED = dataclasses.replace(TINY, model_type="i2v", in_dim=36, image_dim=1280)
# diffusers takes the last 512 rows for text and the others for images.
ONE_IMAGE = dataclasses.replace(NARROW, text_len=512, image_dim=40)
TWO_IMAGES = dataclasses.replace(ONE_IMAGE, num_heads=2, num_layers=2, image_positions=14)


def recorded_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents with the channels of the image behind them, timestep, text; as `dit_i2v` was recorded with."""
    text = torch.zeros(1, 16, 64)
    text[0, :5] = filled("context", 5, 64)
    latents = torch.cat([filled("x", 1, 16, 3, 4, 6), filled("y", 1, 20, 3, 4, 6)], dim=1)
    return latents, torch.tensor([713.0]), text


@torch.no_grad()
def test_official_output() -> None:
    out = filled_transformer(RECORDED)(*recorded_inputs(), image=filled("clip_fea", 1, 257, 1280))
    assert_recorded(out[0], VECTORS["dit_i2v"]["out"])


def random_inputs(config: TransformerConfig, batch: int, image_tokens: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    latents = torch.randn(batch, config.in_dim, 3, 4, 6)
    text = torch.randn(batch, config.text_len, config.text_dim)
    return latents, torch.rand(batch) * 1000, text, 2 * torch.randn(batch, image_tokens, config.image_dim) + 1


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("config", "image_tokens", "images"), [(ONE_IMAGE, 5, 1), (ONE_IMAGE, 10, 1), (TWO_IMAGES, 14, 2)]
)
def test_same_as_diffusers(config: TransformerConfig, image_tokens: int, images: int, batch: int) -> None:
    torch.manual_seed(batch)
    model = filled_transformer(config)
    latents, timestep, text, image = random_inputs(config, batch, image_tokens)
    apart = image.reshape(batch * images, image_tokens // images, -1)  # the peer is given one image a row
    expected = diffusers_twin(model)(latents, timestep, text, apart, return_dict=False)[0]
    assert_close(model(latents, timestep, text, image=image), expected, 3e-5)


@torch.no_grad()
def test_without_features_it_attends_to_the_text_alone() -> None:
    model = filled_transformer(ONE_IMAGE)
    latents, timestep, text, image = random_inputs(ONE_IMAGE, 1, 5)
    plain = WanTransformer(dataclasses.replace(ONE_IMAGE, image_dim=0))
    plain.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "img" not in name})
    out = model(latents, timestep, text)
    assert torch.equal(out, plain(latents, timestep, text))
    assert (out - model(latents, timestep, text, image=image)).abs().max() > 0.01


@torch.no_grad()
def test_the_first_of_two_images_stands_at_the_first_positions() -> None:
    model = filled_transformer(TWO_IMAGES)
    latents, timestep, text, image = random_inputs(TWO_IMAGES, 1, 7)
    state = model.state_dict()
    positions = state.pop("img_emb.emb_pos")
    without = WanTransformer(dataclasses.replace(TWO_IMAGES, image_positions=0))
    without.load_state_dict(state)
    out = model(latents, timestep, text, image=image)
    assert torch.equal(out, without(latents, timestep, text, image=image + positions[:, :7]))


def test_features_without_a_branch_are_refused() -> None:
    latents, timestep, text = torch.randn(1, 5, 1, 2, 2), torch.ones(1), torch.ones(1, 6, 20)
    with pytest.raises(ValueError, match="image"):
        WanTransformer(NARROW)(latents, timestep, text, image=torch.ones(1, 5, 40))


def as_stored(model: WanTransformer, dtype: torch.dtype) -> WanTransformer:
    """`model` with the weights of its products in `dtype`."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter if keeps_float32(name) else parameter.to(dtype)
    return model


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_smaller_weights_stay_near(dtype: torch.dtype) -> None:
    """Half-precision products move the result by rounding only, also where features leave the range of float16."""
    inputs, image = recorded_inputs(), filled("clip_fea", 1, 257, 1280) * 1e5
    model = filled_transformer(RECORDED)
    exact = model(*inputs, image=image)
    rounded = as_stored(model, dtype)(*inputs, image=image)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).abs().max() < 0.06 * exact.std()


@torch.no_grad()
def test_what_is_stored_in_float32_is_used_so() -> None:
    """A change too small for bfloat16 shows in every parameter of the image embedding that stays float32."""
    model = as_stored(filled_transformer(TWO_IMAGES), torch.bfloat16)
    assert model.img_emb is not None
    image = torch.randn(8, 14, 40)
    before = model.img_emb(image, torch.bfloat16)
    kept = {name: p for name, p in model.img_emb.named_parameters() if keeps_float32(f"img_emb.{name}")}
    assert len(kept) == 5
    for name, parameter in kept.items():
        values = parameter.clone()
        small = values.bfloat16() * 2**-10
        parameter.add_(small)
        assert not torch.equal(model.img_emb(image, torch.bfloat16), before), name
        parameter.copy_(values)


def test_autocast_trains_every_parameter() -> None:
    torch.manual_seed(0)
    model = WanTransformer(TWO_IMAGES)
    latents, timestep, text, image = random_inputs(TWO_IMAGES, 2, 14)
    with torch.autocast("cpu", torch.bfloat16):
        model(latents, timestep, text, image=image).square().mean().backward()
    assert silent_parameters(model) == []
