"""Which pictures and clips a model can be given, and the refusal of those it cannot. Torch-free, safe on any thread."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from engine.errors import EngineError, ErrorCode
from engine.generation import Given

TEXT_AND_PICTURE = "ti2v"  # the `model_type` of models that no tensor tells
TI2V_CHANNELS = 48  # latent channels that only the model of text and picture makes
NONE = "none"


class PictureRoad(StrEnum):
    """How pictures reach a transformer: not at all, as channels beside the noise, or as latent frames without noise."""

    NONE = "none"
    CHANNELS = "channels"
    FRAMES = "frames"


@dataclass(frozen=True, slots=True)
class PictureUse:
    """What a model does with pictures. described: how many it attends to the features of, beside their latents."""

    road: PictureRoad
    described: int = 0

    @property
    def takes_last(self) -> bool:
        """Whether the video can be told its last picture: not where features are those of the first alone."""
        return self.road is PictureRoad.CHANNELS and self.described != 1

    @property
    def needs_last(self) -> bool:
        """Whether there is no video without a last picture."""
        return self.described > 1


class PictureSizes(Protocol):
    """Sizes of a transformer, as `TransformerConfig` has them, or those that a file alone tells."""

    @property
    def in_dim(self) -> int: ...

    @property
    def out_dim(self) -> int: ...

    @property
    def image_dim(self) -> int: ...

    @property
    def image_positions(self) -> int: ...


def picture_use(sizes: PictureSizes, model_type: str | None) -> PictureUse:
    """What a transformer does with pictures, told by its sizes, or by the `model_type` of its config where they do not.

    A learnt position for every image token is what only the model of two pictures has.
    """
    described = 0 if not sizes.image_dim else 2 if sizes.image_positions else 1
    if sizes.in_dim > sizes.out_dim:
        return PictureUse(PictureRoad.CHANNELS, described)
    if sizes.out_dim == TI2V_CHANNELS or model_type == TEXT_AND_PICTURE:
        return PictureUse(PictureRoad.FRAMES)
    return PictureUse(PictureRoad.NONE)


def check_given(given: Given, use: PictureUse) -> None:
    """See that a model can take all of `given`, and has all that it needs. Raises INVALID_SETTING."""
    _check_alone(given)
    _check_opening(given, use)
    _check_last(given, use)


def _check_alone(given: Given) -> None:
    if given.extend is not None:
        for name in ("first", "restyle"):
            _refuse(given, name, "none beside a clip to go on with")


def _check_opening(given: Given, use: PictureUse) -> None:
    if use.road is PictureRoad.NONE:
        for name in ("first", "last", "extend"):
            _refuse(given, name, "none, for this model makes videos of text alone; models named I2V or TI2V take it")
    if use.road is PictureRoad.CHANNELS and given.first is None and given.extend is None:
        raise _refused("first", NONE, "a picture that the video begins with; this model makes none without")


def _check_last(given: Given, use: PictureUse) -> None:
    if use.needs_last and given.last is None:
        raise _refused("last", NONE, "a picture that the video ends with; this model goes from one to another")
    if not use.takes_last:
        _refuse(given, "last", "none, for this model knows first pictures only; models named FLF2V take both")
    if given.first is None and given.extend is None:
        _refuse(given, "last", "none without a first picture")


def _refuse(given: Given, name: str, allowed: str) -> None:
    path: Path | None = getattr(given, name)
    if path is not None:
        raise _refused(name, str(path), allowed)


def _refused(name: str, value: str, allowed: str) -> EngineError:
    return EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed=allowed)
