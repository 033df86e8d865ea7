"""What a cut of the decode costs, in closed form: live bytes on the card, bytes in host memory, operations. Pure.

The formulas follow `strip_layers` line by line. A layer is described by its moments: what is alive (its input, a
convolution's buffer, an output), and how many of its cache slots already hold this step's excerpts instead of the
last one's. Slots are in the order in which a layer refreshes them. Elements throughout; multiply by their size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from engine.decode.rows import LayerRows, RowOp

Moment = tuple[int, int]  # elements alive without caches, cache slots already refreshed
Rows = tuple[LayerRows, ...]

WINDOW = 27  # weights of a 3x3x3 kernel per pair of channels
PAST_FRAMES = 2
FLOAT32_BYTES = 4


@dataclass(frozen=True, slots=True)
class ChunkKind:
    """A chunk as the layers see it: its latent frames and which caches exist before and after it."""

    latents: int
    index: int
    last: bool

    def frames(self, factor: int) -> int:
        """Frames at a depth where a latent frame has become `factor`; the first one stays one."""
        return self.latents * factor if self.index else 1


@dataclass(frozen=True, slots=True)
class ConvShape:
    """A 3x3x3 convolution (`StripConv`) at `width` columns, `factor` frames per latent frame."""

    c_in: int
    c_out: int
    width: int
    factor: int

    def buffer(self, rows: LayerRows, frames: int) -> int:
        return self.c_in * (PAST_FRAMES + frames) * rows.buffer_rows * self.width

    def result(self, rows: LayerRows, frames: int) -> int:
        return self.c_out * frames * rows.out * self.width

    def norm(self, rows: LayerRows, frames: int) -> int:
        """The length of every pixel's channels, and the scale of the norm."""
        return frames * rows.new * self.width + self.c_in

    def time_cache(self, rows: LayerRows, *, corner: bool) -> int:
        height = rows.new + (rows.kept if corner else 0)
        return PAST_FRAMES * self.c_in * height * self.width if rows.out else 0

    def row_cache(self, rows: LayerRows, frames: int, *, corner: bool) -> int:
        return self.c_in * (frames + (PAST_FRAMES if corner else 0)) * rows.keep * self.width

    def multiply_adds(self, rows: LayerRows, frames: int) -> int:
        return WINDOW * self.c_in * self.result(rows, frames)


@dataclass(frozen=True, slots=True)
class ResidualShape:
    """`StripResidual`: two convolutions and the delay line of the shortcut."""

    first: ConvShape
    second: ConvShape
    ops = (RowOp.CONVOLVE, RowOp.CONVOLVE)
    slots = 3

    @property
    def factor(self) -> int:
        return self.first.factor

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        upper, lower = rows
        frames = chunk.frames(self.factor)
        x = self._rows_of_input(upper.new, frames)
        waiting = self._rows_of_input(upper.in_start - lower.out_start, frames)
        left = self._rows_of_input(upper.in_stop - lower.out_stop, frames)
        h, out = self.first.result(upper, frames), self.second.result(lower, frames)
        first = self.first.buffer(upper, frames) if upper.out else 0
        second = self.second.buffer(lower, frames)
        in_one_piece = x if upper.whole else 0  # a whole picture is normalised first and copied then
        widened = out if self.first.c_in != self.second.c_out else 0
        return (
            (x + first + self.first.norm(upper, frames) + in_one_piece, 0),
            (x + first + h, 1),
            (x + h + second + self.second.norm(lower, frames), 1),
            (x + h + second, 2),
            (x + second + out, 2),
            (x + out + waiting + max(left, widened), 2),
            (x + out + waiting + left, 3),
        )

    def time_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        upper, lower = rows
        return self.first.time_cache(upper, corner=corner), self.second.time_cache(lower, corner=corner), 0

    def row_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        upper, lower = rows
        frames = chunk.frames(self.factor)
        delay = self._rows_of_input(upper.in_stop - lower.out_stop, frames)
        first, second = ((self.first, upper), (self.second, lower))
        return *(conv.row_cache(at, frames, corner=corner) for conv, at in (first, second)), delay

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        upper, lower = rows
        frames = chunk.frames(self.factor)
        convs = self.first.multiply_adds(upper, frames) + self.second.multiply_adds(lower, frames)
        if self.first.c_in == self.second.c_out:
            return convs
        return convs + self.first.c_in * self.second.result(lower, frames)

    def _rows_of_input(self, rows: int, frames: int) -> int:
        return self.first.c_in * frames * rows * self.first.width


@dataclass(frozen=True, slots=True)
class UpsampleShape:
    """`StripUpsample`: `width` and `factor` are those of its input."""

    channels: int
    c_out: int
    width: int
    factor: int
    temporal: bool
    ops = (RowOp.DOUBLE,)
    slots = 2

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        (at,) = rows
        x = self._low(at.new, chunk.frames(self.factor))
        low, kept = self._low(at.new, self._frames(chunk)), self._low(at.kept, self._frames(chunk))
        timed = self._time_buffer(at, chunk) if self._doubles(chunk) else 0
        made = low + kept if self._doubles(chunk) or at.kept else 0  # otherwise the input itself is spread
        buffer = 2 * self.channels * self._frames(chunk) * at.buffer_rows * self.width
        return (
            (x + timed, 0),
            (x + timed + (low if timed else 0), 1),
            (x + (made + (low if timed else 0) + kept if kept else 0), 1),
            (x + made + buffer, 2),
            (x + buffer + self.result(at, chunk), 2),
        )

    def time_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        (at,) = rows
        return self._low(at.new, PAST_FRAMES) if self._doubles(chunk) and at.out else 0, 0

    def row_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        (at,) = rows
        return 0, self._low(at.keep, self._frames(chunk))

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        (at,) = rows
        spread = 9 * self.channels * self.result(at, chunk)
        if not self._doubles(chunk):
            return spread
        return spread + 3 * 2 * self.channels * self._low(at.new, chunk.frames(self.factor))

    def _doubles(self, chunk: ChunkKind) -> bool:
        return self.temporal and chunk.index > 0

    def _frames(self, chunk: ChunkKind) -> int:
        """Frames after doubling in time."""
        return chunk.frames(self.factor) * (2 if self._doubles(chunk) else 1)

    def _low(self, rows: int, frames: int) -> int:
        return self.channels * frames * rows * self.width

    def _time_buffer(self, at: LayerRows, chunk: ChunkKind) -> int:
        return self._low(at.new, chunk.frames(self.factor) + PAST_FRAMES)

    def result(self, at: LayerRows, chunk: ChunkKind) -> int:
        return self.c_out * self._frames(chunk) * at.out * 2 * self.width


@dataclass(frozen=True, slots=True)
class StageShape:
    """`StripStage`: layers with a shortcut of copies from `c_in` to `c_out` channels, at the input's `width`."""

    layers: tuple[ResidualShape | UpsampleShape, ...]
    c_in: int
    c_out: int
    width: int
    factor: int

    @property
    def ops(self) -> tuple[RowOp, ...]:
        return tuple(op for layer in self.layers for op in layer.ops)

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        """The input stays alive for the shortcut while the layers run, then a part of the copies is added at a time."""
        frames, first, last = chunk.frames(self.factor), rows[0], rows[-1]
        x = self._rows_of_input(first.new, frames)
        found: list[Moment] = []
        slots = 0
        for i, (layer, at) in enumerate(self._with_rows(rows)):
            if at[-1].out:
                found += [(live + (x if i else 0), slots + done) for live, done in layer.moments(at, chunk)]
            slots += layer.slots
        out = self._upsampler.result(last, chunk)
        waited = first.in_start > last.out_start // 2
        source = self._rows_of_input(first.in_stop - last.out_start // 2, frames) if waited else 0
        part = self.c_out * frames * (last.out + 1) // 2 * self.width
        return *found, (x + out + source + part, slots), (x + out + source, slots + 1)

    def time_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        inner = (layer.time_slots(at, chunk, corner=corner) for layer, at in self._with_rows(rows))
        return *chain.from_iterable(inner), 0

    def row_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        inner = (layer.row_slots(at, chunk, corner=corner) for layer, at in self._with_rows(rows))
        waiting = rows[0].in_stop - rows[-1].out_stop // 2 if rows[-1].out else 0
        return *chain.from_iterable(inner), self._rows_of_input(waiting, chunk.frames(self.factor))

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        return sum(layer.multiply_adds(at, chunk) for layer, at in self._with_rows(rows) if at[-1].out)

    @property
    def _upsampler(self) -> UpsampleShape:
        last = self.layers[-1]
        assert isinstance(last, UpsampleShape)
        return last

    def _with_rows(self, rows: Rows) -> Iterator[tuple[ResidualShape | UpsampleShape, Rows]]:
        flat = iter(rows)
        return ((layer, tuple(next(flat) for _ in layer.ops)) for layer in self.layers)

    def _rows_of_input(self, rows: int, frames: int) -> int:
        return self.c_in * frames * rows * self.width


@dataclass(frozen=True, slots=True)
class HeadShape:
    """`StripHead`: one convolution to colours, which are copied once more where they come in patches of pixels."""

    conv: ConvShape
    patch: int
    ops = (RowOp.CONVOLVE,)

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        (at,) = rows
        frames = chunk.frames(self.conv.factor)
        x = self.conv.c_in * frames * at.new * self.conv.width
        buffer = self.conv.buffer(at, frames)
        result = self.conv.result(at, frames)
        colours = 2 * result if self.patch > 1 else 0
        return (x + buffer + self.conv.norm(at, frames), 0), (x + buffer + result, 1), (colours, 1)

    def time_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        return (self.conv.time_cache(rows[0], corner=corner),)

    def row_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        return (self.conv.row_cache(rows[0], chunk.frames(self.conv.factor), corner=corner),)

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        return self.conv.multiply_adds(rows[0], chunk.frames(self.conv.factor))


LayerShape = ResidualShape | UpsampleShape | StageShape | HeadShape
