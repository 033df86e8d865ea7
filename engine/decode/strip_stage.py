"""A stage of the Wan 2.2 decoder on strips: its layers, and a shortcut of copies around them. Engine's thread."""

from collections.abc import Sequence
from itertools import chain, product
from typing import Protocol

import torch
from torch import Tensor

from engine.decode.rows import LayerRows, Range, RowOp
from engine.decode.strip_layers import Step
from engine.models.video_vae22 import DupUp

STRIDE = 2  # of rows and columns: what an upsampler does to both


class StageLayer(Protocol):
    """What a stage is made of, here and in the encoder."""

    @property
    def index(self) -> int: ...
    @property
    def ops(self) -> tuple[RowOp, ...]: ...
    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]: ...
    def __call__(self, x: Tensor, step: Step) -> Tensor: ...


class LayersInRow:
    """Layers with a shortcut around them, whose input rows wait under `key` until the layers have made theirs."""

    def __init__(self, layers: Sequence[StageLayer]) -> None:
        self.layers = layers
        self.ops: tuple[RowOp, ...] = tuple(chain.from_iterable(layer.ops for layer in layers))
        self.index = layers[0].index
        self.last = self.index + len(self.ops) - 1
        self.key = f"{self.index} stage"

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names and input rows of the time caches of a strip."""
        return tuple(chain.from_iterable(layer.pasts(rows, strips_outer=strips_outer) for layer in self.layers))

    def run(self, x: Tensor, step: Step) -> Tensor:
        """One layer after the other."""
        for layer in self.layers:
            x = layer(x, step)
        return x


class StripStage(LayersInRow):
    """Residual blocks and an upsampler, added to copies of the input."""

    def __init__(self, layers: Sequence[StageLayer], shortcut: DupUp) -> None:
        super().__init__(layers)
        self.shortcut = shortcut

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        out = self.run(x, step)
        return self._add_copies(out, x, step) if step.rows[self.last].out else out

    def _add_copies(self, out: Tensor, x: Tensor, step: Step) -> Tensor:
        """out += copies of the input at the same rows, which come from the delay line and from x."""
        made, first = step.rows[self.last], step.rows[self.index]
        start, key = made.out_start // STRIDE, (self.key, step.chunk)
        source = x
        if first.in_start > start:
            source = x.new_empty((*x.shape[:3], first.in_stop - start, x.shape[4]))
            step.row.fetch(key, into=source[:, :, :, : first.in_start - start])
            source[:, :, :, first.in_start - start :] = x
        add_copies(out, made.out_start, source, self.shortcut, first_chunk=step.chunk == 0)
        step.row.store(key, source[:, :, :, made.out_stop // STRIDE - start :])
        return out


def add_copies(out: Tensor, row_start: int, x: Tensor, shortcut: DupUp, *, first_chunk: bool) -> None:
    """Add what `dup_up` makes of x [1, C, T, R, W] to out [1, c_out, T', R', 2W], whose first row is `row_start`.

    The first row of x is that of `row_start`. One place in the cells of the fine grid at a time, so that the copies
    are never all alive together.
    """
    ft = shortcut.factors.time
    repeats = shortcut.c_out * shortcut.factors.volume // x.shape[1]
    channels = torch.arange(shortcut.c_out, device=x.device) * shortcut.factors.volume
    stop = row_start + out.shape[3]
    for dt, dh, dw in product(range(ft - 1 if first_chunk else 0, ft), range(STRIDE), range(STRIDE)):
        place = (dt * STRIDE + dh) * STRIDE + dw
        top = row_start + (dh - row_start) % STRIDE  # first row of this parity
        rows = slice(top // STRIDE - row_start // STRIDE, (stop - dh + 1) // STRIDE - row_start // STRIDE)
        frames = slice(None) if first_chunk else slice(dt, None, ft)
        into = out[:, :, frames, top - row_start :: STRIDE, dw::STRIDE]
        into.add_(x[:, :, :, rows].index_select(1, (channels + place) // repeats))
