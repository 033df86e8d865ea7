"""What the encoder's layers keep alive, in the moments of `engine.decode.footprint`. Pure.

The formulas follow `strip_layers` line by line. Time caches wait in host memory, so only row caches have slots in
the moments; the corner of a buffer (earlier frames of earlier rows) travels with them. `factor` is how many frames a
latent frame has at a layer's input. Elements throughout; multiply by their size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from engine.decode.footprint import PAST_FRAMES, ChunkKind, ConvShape, Moment, ResidualShape, Rows
from engine.decode.rows import LayerRows, RowOp


@dataclass(frozen=True, slots=True)
class EntryShape:
    """`StripEntry`; patches are a copy of the pixels."""

    conv: ConvShape
    patch: int
    ops = (RowOp.CONVOLVE,)

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        (at,) = rows
        frames = chunk.frames(self.conv.factor)
        x = self.conv.c_in * frames * at.new * self.conv.width
        pixels = x if self.patch > 1 else 0
        return (x + pixels, 0), (x + self.conv.buffer(at, frames) + self.conv.result(at, frames), 1)

    def time_cache(self, rows: Rows, chunk: ChunkKind) -> int:
        return PAST_FRAMES * self.conv.c_in * rows[0].new * self.conv.width

    def row_slots(self, rows: Rows, chunk: ChunkKind) -> tuple[int, ...]:
        return (self.conv.row_cache(rows[0], chunk.frames(self.conv.factor), corner=True),)

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        return self.conv.multiply_adds(rows[0], chunk.frames(self.conv.factor))


@dataclass(frozen=True, slots=True)
class BlockShape:
    """`StripResidual`, whose moments are those of the decoder."""

    block: ResidualShape
    ops = ResidualShape.ops

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        return self.block.moments(rows, chunk)

    def time_cache(self, rows: Rows, chunk: ChunkKind) -> int:
        convs = zip((self.block.first, self.block.second), rows, strict=True)
        return sum(PAST_FRAMES * conv.c_in * at.new * conv.width for conv, at in convs)

    def row_slots(self, rows: Rows, chunk: ChunkKind) -> tuple[int, ...]:
        return self.block.row_slots(rows, chunk, corner=True)

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        return self.block.multiply_adds(rows, chunk)


@dataclass(frozen=True, slots=True)
class DownsampleShape:
    """`StripDownsample`: `width` and `factor` are those of its input."""

    channels: int
    width: int
    factor: int
    temporal: bool
    ops = (RowOp.HALVE,)

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        (at,) = rows
        frames = chunk.frames(self.factor)
        x = self.channels * frames * at.new * self.width
        buffer = self.channels * frames * (at.kept + at.new + at.bottom_zeros) * (self.width + 1)
        low = self._low(at, frames)
        timed = self._low(at, frames + 1) + self.result(at, chunk) if self._halves(chunk) else 0
        return (x + buffer, 0), (x + buffer + low, 1), (x + low + timed, 1)

    def time_cache(self, rows: Rows, chunk: ChunkKind) -> int:
        return self._low(rows[0], 1) if self.temporal else 0

    def row_slots(self, rows: Rows, chunk: ChunkKind) -> tuple[int, ...]:
        return (self.channels * chunk.frames(self.factor) * rows[0].keep * self.width,)

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        (at,) = rows
        halved = 9 * self.channels * self._low(at, chunk.frames(self.factor))
        return halved + (3 * self.channels * self.result(at, chunk) if self._halves(chunk) else 0)

    def result(self, at: LayerRows, chunk: ChunkKind) -> int:
        frames = chunk.frames(self.factor)
        return self._low(at, frames // 2 if self._halves(chunk) else frames)

    def _halves(self, chunk: ChunkKind) -> bool:
        return self.temporal and chunk.index > 0

    def _low(self, at: LayerRows, frames: int) -> int:
        return self.channels * frames * at.out * (self.width // 2)


@dataclass(frozen=True, slots=True)
class DownStageShape:
    """`StripDownStage`: layers with a shortcut of means from `c_in` to `c_out` channels, at the input's `width`."""

    layers: tuple[BlockShape | DownsampleShape, ...]
    c_in: int
    c_out: int
    width: int
    factor: int

    @property
    def ops(self) -> tuple[RowOp, ...]:
        return tuple(op for layer in self.layers for op in layer.ops)

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        """The input stays alive for the shortcut while the layers run."""
        found: list[Moment] = []
        slots = 0
        x = self._rows_of_input(rows[0].new, chunk.frames(self.factor))
        for i, (layer, at) in enumerate(self._with_rows(rows)):
            found += [(live + (x if i else 0), slots + done) for live, done in layer.moments(at, chunk)]
            slots += len(layer.row_slots(at, chunk))
        return *found, *((x + live, slots + done) for live, done in self._means(rows, chunk))

    def time_cache(self, rows: Rows, chunk: ChunkKind) -> int:
        return sum(layer.time_cache(at, chunk) for layer, at in self._with_rows(rows))

    def row_slots(self, rows: Rows, chunk: ChunkKind) -> tuple[int, ...]:
        inner = (layer.row_slots(at, chunk) for layer, at in self._with_rows(rows))
        waiting = rows[0].in_stop - rows[-1].out_stop * self._stride
        return *chain.from_iterable(inner), self._rows_of_input(waiting, chunk.frames(self.factor))

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        return sum(layer.multiply_adds(at, chunk) for layer, at in self._with_rows(rows))

    def _means(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        """`avg_down`, which fills the frames up, puts the values of a cell side by side, and takes means of them."""
        made, frames = rows[-1], chunk.frames(self.factor)
        out = self._result(made, chunk)
        waiting = rows[0].in_start - made.out_start * self._stride
        source = self._rows_of_input(waiting + rows[0].new, frames) if waiting else 0
        filled = self._rows_of_input(made.out * self._stride, frames + -frames % self._stride_in_time)
        side_by_side = filled if self._downsampler else 0
        return (out + source + filled + max(side_by_side, out), 0), (out + source, 1)

    @property
    def _downsampler(self) -> DownsampleShape | None:
        last = self.layers[-1]
        return last if isinstance(last, DownsampleShape) else None

    @property
    def _stride(self) -> int:
        return 2 if self._downsampler else 1

    @property
    def _stride_in_time(self) -> int:
        return 2 if self._downsampler and self._downsampler.temporal else 1

    def _result(self, made: LayerRows, chunk: ChunkKind) -> int:
        if self._downsampler:
            return self._downsampler.result(made, chunk)
        return self.c_out * chunk.frames(self.factor) * made.out * self.width

    def _with_rows(self, rows: Rows) -> Iterator[tuple[BlockShape | DownsampleShape, Rows]]:
        flat = iter(rows)
        return ((layer, tuple(next(flat) for _ in layer.ops)) for layer in self.layers)

    def _rows_of_input(self, rows: int, frames: int) -> int:
        return self.c_in * frames * rows * self.width


LayerShape = EntryShape | BlockShape | DownsampleShape | DownStageShape
