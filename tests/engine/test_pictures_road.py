"""Which pictures a model takes, by the sizes of the real ones, and what is said of the others."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import EngineError, ErrorCode
from engine.generation import Given
from engine.models.transformer import TransformerConfig
from engine.pictures.road import PictureRoad, PictureUse, check_given, picture_use

T2V = TransformerConfig()
I2V = replace(T2V, in_dim=36, image_dim=1280)
FLF2V = replace(I2V, image_positions=514)
I2V_A14B = replace(T2V, in_dim=36)
TI2V_5B = replace(T2V, in_dim=48, out_dim=48)
MINI = replace(T2V, in_dim=8, out_dim=8, model_type="ti2v")
MODELS = {"t2v": T2V, "i2v": I2V, "flf2v": FLF2V, "i2v_a14b": I2V_A14B, "ti2v_5b": TI2V_5B, "mini": MINI}
A, B, CLIP = Path("a.png"), Path("b.png"), Path("c.mp4")

FIRST, BOTH, EXTEND, RESTYLE = Given(A), Given(A, B), Given(extend=CLIP), Given(restyle=CLIP)
TAKEN = {
    "t2v": [Given(), RESTYLE],
    "i2v": [FIRST, EXTEND, Given(A, restyle=CLIP)],
    "flf2v": [BOTH, Given(last=B, extend=CLIP)],
    "i2v_a14b": [FIRST, BOTH, EXTEND, Given(last=B, extend=CLIP)],
    "ti2v_5b": [Given(), FIRST, EXTEND, RESTYLE, Given(A, restyle=CLIP)],
    "mini": [Given(), FIRST, EXTEND, RESTYLE],
}
REFUSED = {
    "t2v": {"first": FIRST, "last": Given(last=B), "extend": EXTEND},
    "i2v": {"first": Given(), "last": BOTH},
    "flf2v": {"first": Given(last=B), "last": FIRST},
    "i2v_a14b": {"first": RESTYLE, "restyle": Given(extend=CLIP, restyle=CLIP)},
    "ti2v_5b": {"last": BOTH, "first": Given(A, extend=CLIP)},
    "mini": {"last": Given(last=B)},
}


def test_roads_of_the_real_models() -> None:
    channels, frames = PictureRoad.CHANNELS, PictureRoad.FRAMES
    assert {name: picture_use(config, config.model_type) for name, config in MODELS.items()} == {
        "t2v": PictureUse(PictureRoad.NONE),
        "i2v": PictureUse(channels, 1),
        "flf2v": PictureUse(channels, 2),
        "i2v_a14b": PictureUse(channels),
        "ti2v_5b": PictureUse(frames),
        "mini": PictureUse(frames),
    }


@pytest.mark.parametrize(("model", "given"), [(model, given) for model in TAKEN for given in TAKEN[model]])
def test_what_a_model_takes(model: str, given: Given) -> None:
    check_given(given, picture_use(MODELS[model], MODELS[model].model_type))


@pytest.mark.parametrize(("model", "name"), [(model, name) for model in REFUSED for name in REFUSED[model]])
def test_what_a_model_does_not_take_is_named(model: str, name: str) -> None:
    with pytest.raises(EngineError) as caught:
        check_given(REFUSED[model][name], picture_use(MODELS[model], MODELS[model].model_type))
    assert caught.value.code is ErrorCode.INVALID_SETTING
    assert caught.value.details["name"] == name
    assert caught.value.details["allowed"]
