"""The part of the encoder that works on strips, as a list of layers. Pure, but for the modules."""

from collections.abc import Iterable
from itertools import chain

from torch import nn

from engine.decode.rows import RowOp
from engine.decode.strip_layers import StripResidual
from engine.encode.strip_layers import StripDownsample, StripDownStage, StripEntry
from engine.models.video_vae import Downsample, ResidualBlock, VideoVae
from engine.models.video_vae22 import DownStage

StripLayer = StripEntry | StripResidual | StripDownsample | StripDownStage


def strip_layers(vae: VideoVae) -> list[StripLayer]:
    """Everything before the middle, each layer knowing its place in the row schedule."""
    layers: list[StripLayer] = [StripEntry(0, vae.encoder.conv1)]
    for module in vae.encoder.downsamples:
        index = len(row_ops(layers))
        layers.append(_stage(module, index) if isinstance(module, DownStage) else _plain_layer(module, index))
    return layers


def row_ops(layers: Iterable[StripLayer]) -> tuple[RowOp, ...]:
    """What each layer of the row schedule does with rows."""
    return tuple(chain.from_iterable(layer.ops for layer in layers))


def _stage(stage: DownStage, index: int) -> StripDownStage:
    inner: list[StripResidual | StripDownsample] = []
    for module in stage.downsamples:
        inner.append(_plain_layer(module, index))
        index += len(inner[-1].ops)
    return StripDownStage(inner, stage.avg_shortcut)


def _plain_layer(module: nn.Module, index: int) -> StripResidual | StripDownsample:
    if isinstance(module, ResidualBlock):
        return StripResidual(index, module)
    assert isinstance(module, Downsample)
    return StripDownsample(index, module)
