"""The CLIP image encoder against recorded outputs of the official code and transformers; its pictures by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from engine.models.image_encoder import ImageEncoder, ImageEncoderConfig, clip_picture
from tests.parity.fill import fill_parameters, filled
from tests.parity.official import VECTORS, assert_close, assert_recorded, renamed

TINY = ImageEncoderConfig(image_size=28, dim=64, mlp_dim=256, num_heads=4, num_layers=2)
UNEVEN = ImageEncoderConfig(image_size=50, patch_size=8, dim=60, mlp_dim=44, num_heads=5, num_layers=3)


def filled_encoder(config: ImageEncoderConfig) -> ImageEncoder:
    model = ImageEncoder(config)
    fill_parameters(model.visual)  # the recorded weights go by the names without "visual."
    return model


def transformers_twin(model: ImageEncoder) -> CLIPVisionModel:
    """The same network in transformers, with the layer more that files have."""
    config = model.config
    peer = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=config.dim, intermediate_size=config.mlp_dim, num_hidden_layers=config.num_layers + 1,
            num_attention_heads=config.num_heads, image_size=config.image_size, patch_size=config.patch_size,
            hidden_act="gelu", layer_norm_eps=config.eps,
        )
    )  # fmt: skip
    own = peer.state_dict()
    unused = {name for name in own if f".layers.{config.num_layers}." in name or "post_layernorm" in name}
    state = renamed(split_heads(model.state_dict()), "image_encoder")
    state = {name.removeprefix("vision_model."): tensor for name, tensor in state.items()}  # only files have it
    assert set(own) - unused == set(state)
    peer.load_state_dict(own | {name: tensor.view_as(own[name]) for name, tensor in state.items()}, strict=True)
    return peer.eval()


def split_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the matrices of queries, keys and values apart."""
    split: dict[str, Tensor] = {}
    for name, tensor in state.items():
        thirds = tensor.chunk(3) if "to_qkv" in name else ()
        split |= {name.replace("to_qkv", f"to_{letter}"): third for letter, third in zip("qkv", thirds, strict=False)}
        split |= {} if thirds else {name: tensor}
    return split


@torch.no_grad()
def test_official_output() -> None:
    out = filled_encoder(TINY)(filled("image", 1, 3, 28, 28))
    assert_recorded(out, VECTORS["clip_visual"]["out"])


@torch.no_grad()
@pytest.mark.parametrize(("config", "batch"), [(TINY, 1), (UNEVEN, 3)])
def test_same_as_transformers(config: ImageEncoderConfig, batch: int) -> None:
    torch.manual_seed(batch)
    model = filled_encoder(config)
    picture = torch.randn(batch, 3, config.image_size, config.image_size)
    hidden = transformers_twin(model)(picture, output_hidden_states=True).hidden_states
    assert_close(model(picture), hidden[-2], 2e-5)


def cubic(x: float) -> float:
    """Keys' cubic kernel with a = -0.75."""
    a, x = -0.75, abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def resampling(size_in: int, size_out: int) -> NDArray[np.float64]:
    """[size_out, size_in] weights between pixel centres; beyond the border lies the border's pixel."""
    weights = np.zeros((size_out, size_in))
    for target in range(size_out):
        at = (target + 0.5) * size_in / size_out - 0.5
        for source in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            weights[target, min(max(source, 0), size_in - 1)] += cubic(at - source)
    return weights


@pytest.mark.parametrize(("height", "width"), [(90, 160), (13, 7), (28, 28), (1, 300)])
def test_picture_by_hand(height: int, width: int) -> None:
    """Squashed, not cropped; not smoothed when it shrinks; not clamped where the kernel overshoots."""
    image = filled("picture", 2, 3, height, width).sign()
    squashed = resampling(height, 28) @ image.double().numpy() @ resampling(width, 28).T
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    expected = ((squashed + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    assert_close(clip_picture(image, 28).double(), torch.from_numpy(expected), 3e-4)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_smaller_weights_stay_near(dtype: torch.dtype) -> None:
    model = filled_encoder(UNEVEN)
    picture = clip_picture(filled("picture", 1, 3, 90, 160), UNEVEN.image_size)
    exact = model(picture)
    rounded = model.to(dtype)(picture)
    assert rounded.dtype == dtype
    assert (rounded.float() - exact).abs().max() < 0.06 * exact.std()


def test_callback_after_each_block_can_stop() -> None:
    class Stop(Exception):
        pass

    seen = []

    def on_block(index: int) -> None:
        seen.append(index)
        if index == 1:
            raise Stop

    with pytest.raises(Stop), torch.no_grad():
        ImageEncoder(UNEVEN)(torch.randn(1, 3, 50, 50), on_block)
    assert seen == [0, 1]
