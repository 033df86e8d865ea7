"""The decoder as a list of layers that work on strips, and what of it comes before them. Pure, but for the modules."""

from collections.abc import Iterable
from itertools import chain

from torch import nn

from engine.decode.rows import RowOp
from engine.decode.strip_layers import StripHead, StripResidual, StripUpsample
from engine.decode.strip_stage import StripStage
from engine.models.video_vae import ResidualBlock, Upsample, VideoVae
from engine.models.video_vae22 import UpStage

StripLayer = StripResidual | StripUpsample | StripStage | StripHead


def stem_residuals(vae: VideoVae) -> list[ResidualBlock]:
    """The residual blocks before the first upsampler, which belong to the stem; none where stages have shortcuts."""
    layers = list(vae.decoder.upsamples)
    first_other = next((i for i, layer in enumerate(layers) if not isinstance(layer, ResidualBlock)), len(layers))
    return [layer for layer in layers[:first_other] if isinstance(layer, ResidualBlock)]


def strip_layers(vae: VideoVae) -> list[StripLayer]:
    """Everything after the stem, each layer knowing its place in the row schedule."""
    layers: list[StripLayer] = []
    for module in list(vae.decoder.upsamples)[len(stem_residuals(vae)) :]:
        layers += _layers_of(module, len(row_ops(layers)))
    return [*layers, StripHead(len(row_ops(layers)), vae.decoder.head)]


def row_ops(layers: Iterable[StripLayer]) -> tuple[RowOp, ...]:
    """What each layer of the row schedule does with rows."""
    return tuple(chain.from_iterable(layer.ops for layer in layers))


def _layers_of(module: nn.Module, index: int) -> list[StripLayer]:
    if not isinstance(module, UpStage):
        return [_plain_layer(module, index)]
    inner: list[StripResidual | StripUpsample] = []
    for layer in module.upsamples:
        inner.append(_plain_layer(layer, index))
        index += len(inner[-1].ops)
    return [*inner] if module.avg_shortcut is None else [StripStage(inner, module.avg_shortcut)]


def _plain_layer(module: nn.Module, index: int) -> StripResidual | StripUpsample:
    if isinstance(module, ResidualBlock):
        return StripResidual(index, module)
    assert isinstance(module, Upsample)
    return StripUpsample(index, module)
