"""Exact streaming decode: latents in, finished rows out, nothing computed twice. Lives on the engine's thread.

One step function and two loop orders. Strip-major finishes all frames of a strip before the next strip begins;
frame-major finishes all strips of a chunk of frames before the next chunk begins; one strip is the whole picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.decode.caches import Cache
from engine.decode.cut import DecodeOrder
from engine.decode.plan import DecodePlan
from engine.decode.rows import LayerRows, RowOp, strip_ends, strip_schedule
from engine.decode.stem import StemFrames, run_stem, stem_residuals
from engine.decode.strip_layers import Step, StripHead, StripLayer, StripResidual, StripUpsample
from engine.models.video_vae import ResidualBlock, Upsample, VideoVae


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """Finished rows of some frames: rgb [3, F, R, W] in the decoder's dtype, -1..1 but not clamped."""

    frame_start: int
    row_start: int
    rgb: Tensor


def decode_blocks(
    vae: VideoVae, latents: Tensor, plan: DecodePlan, on_layer: Callable[[], None] | None = None
) -> Iterator[DecodedBlock]:
    """Decode normalised latents [1, z, T, h, w] as `plan` cuts them, one block per strip and chunk.

    Blocks come from the card that holds `vae`. `on_layer` is called before every convolution and may raise to stop.
    """
    notify = on_layer or _ignore
    with torch.no_grad():  # entered anew for every block: a generator must not hold the caller's grad mode
        stem = run_stem(vae, latents, notify)
    walk = StripWalk(vae, stem, plan, notify)
    for strip, chunk in plan.steps():
        with torch.no_grad():
            block = walk.decode(strip, chunk)
        yield block
        del block  # the consumer's by now; the next step must not find it alive here


class StripWalk:
    """The layers below the stem and their caches, taken step by step through strips and chunks."""

    def __init__(self, vae: VideoVae, stem: StemFrames, plan: DecodePlan, on_layer: Callable[[], None]) -> None:
        self._stem = stem
        self._plan = plan
        self._on_layer = on_layer
        self._config = vae.config
        self._layers = strip_layers(vae)
        self._ends = strip_ends(plan.height, plan.strip_rows)
        self._schedule = strip_schedule(row_ops(self._layers), plan.latent_height, self._ends)
        self._near, self._far = Cache(on_host=False), Cache(on_host=plan.caches_on_host)
        self._outer = 0

    def decode(self, strip: int, chunk: int) -> DecodedBlock:
        """The rows of `strip` in the frames of `chunk`; steps must come in the order of the plan."""
        rows = self._schedule[strip]
        start, stop = self._plan.chunk_latent_range(chunk)
        step = self._step(strip, chunk, rows)
        x = self._stem.load(slice(start, stop), slice(rows[0].in_start, rows[0].in_stop))
        for layer in self._layers:
            x = layer(x, step)
        frame_start = self._config.frames(start) if start else 0
        return DecodedBlock(frame_start, rows[-1].out_start, x[0])

    def _step(self, strip: int, chunk: int, rows: tuple[LayerRows, ...]) -> Step:
        strips_outer = self._plan.order is DecodeOrder.STRIP_MAJOR
        outer = strip if strips_outer else chunk
        if outer != self._outer:
            self._near.clear()
            self._outer = outer
        time, row = (self._near, self._far) if strips_outer else (self._far, self._near)
        last_chunk = chunk == self._plan.chunks - 1
        return Step(strip, chunk, last_chunk, strips_outer, rows, time, row, self._on_layer)


def strip_layers(vae: VideoVae) -> list[StripLayer]:
    """Everything after the stem, each layer knowing its place in the row schedule."""
    layers: list[StripLayer] = []
    index = 0
    for module in list(vae.decoder.upsamples)[stem_residuals(vae) :]:
        if isinstance(module, ResidualBlock):
            layers.append(StripResidual(index, module))
            index += 2
        else:
            assert isinstance(module, Upsample)
            layers.append(StripUpsample(index, module))
            index += 1
    return [*layers, StripHead(index, vae.decoder.head)]


def row_ops(layers: list[StripLayer]) -> tuple[RowOp, ...]:
    """What each layer of the row schedule does with rows."""
    ops: list[RowOp] = []
    for layer in layers:
        match layer:
            case StripResidual():
                ops += [RowOp.CONVOLVE, RowOp.CONVOLVE]
            case StripUpsample():
                ops.append(RowOp.DOUBLE)
            case StripHead():
                ops.append(RowOp.CONVOLVE)
    return tuple(ops)


def _ignore() -> None:
    pass
