"""The decoder's layers, run on one strip of one chunk of frames at a time. Lives on the engine's thread.

Each layer borrows the modules of `VideoVae` and adds what a cut needs: every convolution writes its normalised
input once into a buffer whose leading frames and rows come from caches. Tensors are [1, C, T, rows, W]: T frames of
the chunk, the rows of the strip that are new at this depth (none, for layers that are already at the bottom).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.decode.caches import Cache
from engine.decode.rows import LayerRows, Range, RowOp
from engine.models.video_vae import CausalConv3d, ResidualBlock, RmsNorm, Upsample


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the decode: where it lies, and the caches it reads and leaves.

    The corner of a buffer (earlier frames of earlier rows) could come from either cache. It travels with the cache
    of the inner loop, which holds few entries: with the time cache when strips are outer, else with the row cache.
    """

    row_start: int  # first output row of the strip
    chunk: int
    last_chunk: bool
    strips_outer: bool
    rows: tuple[LayerRows, ...]
    time: Cache
    row: Cache
    on_layer: Callable[[], None]


class StripConv:
    """norm, SiLU and a 3x3x3 causal convolution; without a norm the input is taken as it is."""

    def __init__(self, index: int, norm: RmsNorm | None, conv: CausalConv3d) -> None:
        self.index = index
        self.norm = norm
        self.conv = conv
        self._key = f"{index}"

    def gather(self, x: Tensor, step: Step, *, disposable: bool = False) -> Tensor:
        """The convolution's whole input for this step, caches brought up to date.

        x [1, C, T, new, W] -> [1, C, 2+T, zeros+kept+new+zeros, W]; a `disposable` x may be overwritten.
        """
        rows = step.rows[self.index]
        buffer = empty_activation((1, x.shape[1], x.shape[2] + 2, rows.buffer_rows, x.shape[4]), x)
        self._write_zero_rows(buffer, rows)
        content = buffer[:, :, :, rows.top_zeros : rows.buffer_rows - rows.bottom_zeros]
        if rows.new:
            fresh = content[:, :, 2:, rows.kept :]
            self._activate(x, fresh, as_one_piece=rows.whole, disposable=disposable)
        # Views of the buffer that each kind of cache fills and is filled from: [earlier frames | rows that wait].
        framed = content[:, :, :, 0 if step.strips_outer else rows.kept :]
        rowed = content[:, :, 2 if step.strips_outer else 0 :]
        self._fetch(framed[:, :, :2], rowed[:, :, :, : rows.kept], step)
        self._store(framed[:, :, -2:], rowed[:, :, :, rowed.shape[3] - rows.keep :], step)
        return buffer

    def convolve(self, buffer: Tensor, step: Step) -> Tensor:
        """[1, C, 2+T, rows, W] -> [1, C', T, out, W]."""
        rows = step.rows[self.index]
        if not rows.out:  # what came in waits for the next strip
            return buffer.new_empty((1, self.conv.out_channels, buffer.shape[2] - 2, 0, buffer.shape[4]))
        step.on_layer()
        padding = (0, 1 if rows.whole else 0, 1)
        return F.conv3d(buffer, self.conv.weight, self.conv.bias, padding=padding)

    def past(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[str, Range]:
        """The name of the time cache and the input rows that it holds of a strip."""
        at = rows[self.index]
        return self._key, (at.kept_start if strips_outer else at.in_start, at.in_stop)

    def _activate(self, x: Tensor, into: Tensor, *, as_one_piece: bool, disposable: bool) -> None:
        """Write SiLU(norm(x)) into the buffer.

        On a CPU the last bit of SiLU depends on a value's place in memory (vector loop or its scalar tail). A picture
        that is not cut is computed in one piece before it is copied, and so equals the untiled decode to the bit.
        """
        if self.norm is None:
            into.copy_(x)
            return
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(1e-12)
        normalised = torch.div(x, length, out=(x if disposable else None) if as_one_piece else into)
        F.silu(normalised.mul_(self.norm.scale * self.norm.gamma), inplace=True)
        if as_one_piece:
            into.copy_(normalised)

    @staticmethod
    def _write_zero_rows(buffer: Tensor, rows: LayerRows) -> None:
        if rows.top_zeros:
            buffer[:, :, :, 0].zero_()
        if rows.bottom_zeros:
            buffer[:, :, :, -1].zero_()

    def _fetch(self, earlier_frames: Tensor, kept_rows: Tensor, step: Step) -> None:
        if earlier_frames.numel():
            step.time.fetch((self._key, step.row_start), into=earlier_frames)
        if kept_rows.numel():
            step.row.fetch((self._key, step.chunk), into=kept_rows)

    def _store(self, last_frames: Tensor, last_rows: Tensor, step: Step) -> None:
        """Leave the excerpts for the next chunk and the next strip, if there are such."""
        step.time.store((self._key, step.row_start), last_frames, last=step.last_chunk)
        step.row.store((self._key, step.chunk), last_rows)


class StripResidual:
    """A residual block; its input rows wait (a delay line) until the second convolution has made the same rows."""

    ops = (RowOp.CONVOLVE, RowOp.CONVOLVE)

    def __init__(self, index: int, block: ResidualBlock) -> None:
        residual = block.residual
        self.index = index
        self.first = StripConv(index, _norm(residual[0]), _conv(residual[2]))
        self.second = StripConv(index + 1, _norm(residual[3]), _conv(residual[6]))
        self.shortcut = block.shortcut
        self._key = f"{index} delay"

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names and input rows of the time caches of a strip."""
        return tuple(conv.past(rows, strips_outer=strips_outer) for conv in (self.first, self.second))

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        out = self._convolve_twice(x, step)
        if step.rows[self.first.index].idle and not out.numel():
            return out
        return self._add_shortcut(out, x, step)

    def _convolve_twice(self, x: Tensor, step: Step) -> Tensor:
        if step.rows[self.first.index].idle:
            h = _no_rows(x, self.first.conv.out_channels)
        else:
            h = self.first.convolve(self.first.gather(x, step), step)  # [1, C', T, new rows of the second, W]
        if step.rows[self.second.index].idle:
            return _no_rows(x, self.second.conv.out_channels)
        buffer = self.second.gather(h, step, disposable=True)
        del h  # dead from here on, and as large as the result
        return self.second.convolve(buffer, step)

    def _add_shortcut(self, out: Tensor, x: Tensor, step: Step) -> Tensor:
        """out[rows] += shortcut(block input at the same rows), which come from the delay line and from x."""
        waiting = step.rows[self.first.index].in_start - step.rows[self.second.index].out_start
        delayed = x.new_empty((*x.shape[:3], waiting, x.shape[4]))
        key = (self._key, step.chunk)
        if waiting:
            step.row.fetch(key, into=delayed)
        ready = step.rows[self.second.index].out
        from_delay = min(waiting, ready)
        if from_delay:
            out[:, :, :, :from_delay].add_(self.shortcut(delayed[:, :, :, :from_delay]))
        if ready > from_delay:
            out[:, :, :, from_delay:].add_(self.shortcut(x[:, :, :, : ready - from_delay]))
        left = torch.cat([delayed[:, :, :, from_delay:], x[:, :, :, ready - from_delay :]], dim=3)
        step.row.store(key, left)
        return out


class StripUpsample:
    """Doubles the frames of every chunk but the first (if temporal), then rows and columns, then convolves."""

    ops = (RowOp.DOUBLE,)

    def __init__(self, index: int, module: Upsample) -> None:
        self.index = index
        self.conv = _conv2d(module.resample[1])
        self.time_conv = module.time_conv if module.temporal else None
        self._rows_key = f"{index}"
        self._time_key = f"{index} time"

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        rows = step.rows[self.index]
        if not rows.out:
            frames = x.shape[2] * (2 if self._doubles_frames(step) else 1)
            return x.new_empty((1, self.conv.out_channels, frames, 0, 2 * x.shape[4]))
        low = self._with_kept_rows(self._frames(x, step), rows, step)
        buffer = self._spread(low, rows)
        del low
        step.on_layer()
        padding = (1 if rows.whole else 0, 1)
        out = F.conv2d(buffer, self.conv.weight, self.conv.bias, padding=padding)  # [T', C', out, 2W]
        return out.transpose(0, 1)[None]  # [1, C', T', out, 2W]

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names and input rows of the time caches of a strip."""
        return ((self._time_key, (rows[self.index].in_start, rows[self.index].in_stop)),)

    def _doubles_frames(self, step: Step) -> bool:
        """The first chunk, one frame, passes undoubled, and the convolution in time never sees it."""
        return self.time_conv is not None and step.chunk > 0

    def _frames(self, x: Tensor, step: Step) -> Tensor:
        """[1, C, T, new, W] -> [P, C, T, new, W]: with P=2 the even and the odd frames of the doubled chunk."""
        if self.time_conv is None or not self._doubles_frames(step):
            return x
        if not x.shape[3]:
            return x.expand(2, -1, -1, -1, -1)
        buffer = empty_activation((1, x.shape[1], x.shape[2] + 2, x.shape[3], x.shape[4]), x)
        buffer[:, :, 2:] = x
        key = (self._time_key, step.row_start)
        step.time.fetch(key, into=buffer[:, :, :2])
        step.time.store(key, buffer[:, :, -2:], last=step.last_chunk)
        step.on_layer()
        doubled = F.conv3d(buffer, self.time_conv.weight, self.time_conv.bias)  # [1, 2C, T, new, W]
        return doubled.unflatten(1, (2, -1))[0]

    def _with_kept_rows(self, low: Tensor, rows: LayerRows, step: Step) -> Tensor:
        """Put the rows that wait from earlier strips before the new ones, leave those the next strip needs."""
        key = (self._rows_key, step.chunk)
        if rows.kept:
            kept = low.new_empty((*low.shape[:3], rows.kept, low.shape[4]))
            step.row.fetch(key, into=kept)
            low = torch.cat([kept, low], dim=3)
        step.row.store(key, low[:, :, :, low.shape[3] - rows.keep :])
        return low

    @staticmethod
    def _spread(low: Tensor, rows: LayerRows) -> Tensor:
        """[P, C, T, kept+new, W] -> [P*T, C, zeros+window+zeros, 2W], every pixel four times, frames interleaved."""
        parities, c, t, _, w = low.shape
        buffer = empty_activation((parities * t, c, rows.buffer_rows, 2 * w), low)
        if rows.top_zeros:
            buffer[:, :, 0].zero_()
        if rows.bottom_zeros:
            buffer[:, :, -1].zero_()
        window = buffer[:, :, rows.top_zeros : rows.buffer_rows - rows.bottom_zeros].unflatten(3, (w, 2))
        for frame_parity in range(parities):
            frames = low[frame_parity].transpose(0, 1).unsqueeze(4)  # [T, C, kept+new, W, 1]
            into = window[frame_parity::parities]
            for first in (0, 1):  # every other row, so that the source is one slice
                top = (rows.window_start + first) // 2 - rows.kept_start
                part = into[:, :, first::2]
                part.copy_(frames[:, :, top : top + part.shape[2]].expand_as(part))
        return buffer


class StripHead:
    """norm, SiLU and the convolution to colours."""

    ops = (RowOp.CONVOLVE,)

    def __init__(self, index: int, head: nn.Sequential) -> None:
        self.conv = StripConv(index, _norm(head[0]), _conv(head[2]))

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names and input rows of the time caches of a strip."""
        return (self.conv.past(rows, strips_outer=strips_outer),)

    def __call__(self, x: Tensor, step: Step) -> Tensor:
        return self.conv.convolve(self.conv.gather(x, step, disposable=True), step)


def empty_activation(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Room for a convolution's input; cards convolve faster with the channels innermost."""
    channels_last = torch.channels_last_3d if len(shape) == 5 else torch.channels_last
    layout = channels_last if like.device.type == "cuda" else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _no_rows(x: Tensor, channels: int) -> Tensor:
    return x.new_empty((1, channels, x.shape[2], 0, x.shape[4]))


def _norm(module: nn.Module) -> RmsNorm:
    assert isinstance(module, RmsNorm)
    return module


def _conv(module: nn.Module) -> CausalConv3d:
    assert isinstance(module, CausalConv3d)
    return module


def _conv2d(module: nn.Module) -> nn.Conv2d:
    assert isinstance(module, nn.Conv2d)
    return module
