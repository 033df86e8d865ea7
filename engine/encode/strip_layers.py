"""The encoder's layers that the decoder has no like of, run on strips. Lives on the engine's thread.

As in `engine.decode.strip_layers`: tensors are [1, C, T, rows, W], rows and frames from before come from caches. A
layer may take rows and make none; what it took then waits for the next strip.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from engine.decode.rows import LayerRows, Range, RowOp
from engine.decode.strip_layers import Step, StripConv, empty_activation
from engine.decode.strip_stage import LayersInRow, StageLayer
from engine.models.video_vae import CausalConv3d, Downsample
from engine.models.video_vae22 import AvgDown, avg_down


class StripEntry:
    """The convolution that takes pixels, or patches of them."""

    ops = (RowOp.CONVOLVE,)

    def __init__(self, index: int, conv: CausalConv3d) -> None:
        self.conv = StripConv(index, None, conv)

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names and input rows of the time caches of a strip."""
        return (self.conv.past(rows, strips_outer=strips_outer),)

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        return self.conv.convolve(self.conv.gather(x, step), step)


class StripDownsample:
    """Halves rows and columns and then, if temporal, the frames of every chunk but the first."""

    ops = (RowOp.HALVE,)

    def __init__(self, index: int, module: Downsample) -> None:
        self.index = index
        self.conv = _conv2d(module.resample[1])
        self.time_conv = module.time_conv if module.temporal else None
        self._rows_key = f"{index}"
        self._time_key = f"{index} time"

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names of the time caches of a strip and the rows that they hold: here those of the output."""
        return ((self._time_key, (rows[self.index].out_start, rows[self.index].out_stop)),)

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        rows = step.rows[self.index]
        low = self._no_rows(x) if rows.idle else self._halve_picture(x, rows, step)
        return low if self.time_conv is None else self._halve_frames(low, self.time_conv, step)

    def _halve_picture(self, x: Tensor, rows: LayerRows, step: Step) -> Tensor:
        """[1, C, T, new, W] -> [1, C, T, out, W/2]."""
        buffer = self._gather(x, rows, step)
        if not rows.out:
            return self._no_rows(x)
        step.on_layer()
        # A row too many at the bottom, kept for the next strip, is no window of its own.
        out = F.conv2d(buffer, self.conv.weight, self.conv.bias, stride=2)  # [T, C, out, W/2]
        return out.transpose(0, 1)[None]

    @staticmethod
    def _no_rows(x: Tensor) -> Tensor:
        return x.new_empty((*x.shape[:3], 0, x.shape[4] // 2))

    def _gather(self, x: Tensor, rows: LayerRows, step: Step) -> Tensor:
        """[1, C, T, new, W] -> [T, C, kept+new+zeros, W+1], the last column zeros, the row cache brought up to date."""
        _, c, t, _, w = x.shape
        in_rows = rows.kept + rows.new
        buffer = empty_activation((t, c, in_rows + rows.bottom_zeros, w + 1), x)
        buffer[..., -1].zero_()
        if rows.bottom_zeros:
            buffer[:, :, -1].zero_()
        content = buffer[:, :, :in_rows, :w].transpose(0, 1)[None]  # [1, C, T, kept+new, W]
        content[:, :, :, rows.kept :] = x
        key = (self._rows_key, step.chunk)
        if rows.kept:
            step.row.fetch(key, into=content[:, :, :, : rows.kept])
        step.row.store(key, content[:, :, :, in_rows - rows.keep :])
        return buffer

    def _halve_frames(self, low: Tensor, conv: nn.Conv3d, step: Step) -> Tensor:
        """[1, C, T, out, W] -> [1, C, T/2, out, W]; the first chunk, one frame, passes and is only remembered."""
        key = (self._time_key, step.row_start)
        if step.chunk == 0:
            step.time.store(key, low, last=step.last_chunk)
            return low
        if not low.shape[3]:
            return low[:, :, ::2]
        buffer = empty_activation((1, low.shape[1], low.shape[2] + 1, low.shape[3], low.shape[4]), low)
        buffer[:, :, 1:] = low
        step.time.fetch(key, into=buffer[:, :, :1])
        step.time.store(key, buffer[:, :, -1:], last=step.last_chunk)
        step.on_layer()
        return F.conv3d(buffer, conv.weight, conv.bias, stride=(2, 1, 1))


class StripDownStage(LayersInRow):
    """Residual blocks and a downsampler, added to means of the input."""

    def __init__(self, layers: Sequence[StageLayer], shortcut: AvgDown) -> None:
        super().__init__(layers)
        self.shortcut = shortcut

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        out = self.run(x, step)
        return out if step.rows[self.index].idle else self._add_means(out, x, step)

    def _add_means(self, out: Tensor, x: Tensor, step: Step) -> Tensor:
        """out += means of the input at the same rows, which come from the delay line and from x."""
        made, first, stride = step.rows[self.last], step.rows[self.index], self.shortcut.factors.space
        waiting = first.in_start - made.out_start * stride
        key = (self.key, step.chunk)
        source = x
        if waiting:
            source = x.new_empty((*x.shape[:3], waiting + first.new, x.shape[4]))
            step.row.fetch(key, into=source[:, :, :, :waiting])
            source[:, :, :, waiting:] = x
        ready = made.out * stride
        if ready:
            out.add_(avg_down(source[:, :, :, :ready], self.shortcut.c_out, self.shortcut.factors))
        step.row.store(key, source[:, :, :, ready:])
        return out


def _conv2d(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module
