"""Preview colours against a computation by hand, and damaged factor files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import EngineError
from engine.preview import preview_picture, read_factors


def test_the_picture_is_the_linear_map() -> None:
    factors = read_factors(None, 16)
    assert factors is not None
    latents = torch.randn(1, 16, 3, 2, 5, generator=torch.Generator().manual_seed(0))
    picture = preview_picture(latents, factors)
    assert picture.shape == (3, 2, 5, 3)
    assert picture.dtype == np.uint8
    for t, y, x in ((0, 0, 0), (2, 1, 4), (1, 0, 3)):
        rgb = latents[0, :, t, y, x].numpy() @ factors.factors.numpy() + factors.bias.numpy()
        wanted = np.clip((rgb + 1) / 2, 0, 1) * 255
        assert np.abs(picture[t, y, x, ::-1] - wanted).max() <= 0.51


def test_zero_latents_show_the_bias_of_wan() -> None:
    factors = read_factors(None, 16)
    assert factors is not None
    red, green, blue = ((1 + bias) * 127.5 for bias in (-0.1835, -0.0868, -0.336))
    pixel = preview_picture(torch.zeros(1, 16, 1, 1, 1), factors)[0, 0, 0]
    assert pixel.tolist() == [round(blue), round(green), round(red)]


def test_a_model_brings_its_own_factors(tmp_path: Path) -> None:
    own = tmp_path / "latent_rgb.json"
    own.write_text(json.dumps({"factors": [[1, 0, 0], [0, 1, 0]], "bias": [0, 0, 1]}))
    factors = read_factors(own, 2)
    assert factors is not None
    latents = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1, 1)
    assert preview_picture(latents, factors)[0, 0, 0].tolist() == [255, 0, 255]


def test_unknown_channels_have_no_preview() -> None:
    assert read_factors(None, 7) is None
    assert read_factors(None, 48) is not None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"factors": [[1, 2]], "bias": [0, 0, 0]}', '{"factors": "x"}'])
def test_damaged_factors_are_refused(tmp_path: Path, content: str) -> None:
    own = tmp_path / "latent_rgb.json"
    own.write_text(content)
    with pytest.raises(EngineError, match="model_invalid"):
        read_factors(own, 8)
