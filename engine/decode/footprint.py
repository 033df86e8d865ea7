"""What a cut of the decode costs, in closed form: live bytes on the card, bytes in host memory, operations. Pure.

The formulas follow `strip_layers` line by line. A layer is described by its moments: what is alive (its input, a
convolution's buffer, an output), and how many of its cache slots already hold this step's excerpts instead of the
last one's. Slots are in the order in which a layer refreshes them. Elements throughout; multiply by their size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from engine.decode.rows import LayerRows, RowOp
from engine.models.video_vae import VideoVaeConfig

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
    width: int
    factor: int
    temporal: bool
    ops = (RowOp.DOUBLE,)

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
            (x + buffer + self._result(at, chunk), 2),
        )

    def time_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        (at,) = rows
        return self._low(at.new, PAST_FRAMES) if self._doubles(chunk) and at.out else 0, 0

    def row_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        (at,) = rows
        return 0, self._low(at.keep, self._frames(chunk))

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        (at,) = rows
        spread = 9 * self.channels * self._result(at, chunk)
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

    def _result(self, at: LayerRows, chunk: ChunkKind) -> int:
        return self.channels // 2 * self._frames(chunk) * at.out * 2 * self.width


@dataclass(frozen=True, slots=True)
class HeadShape:
    """`StripHead`: one convolution to three colours."""

    conv: ConvShape
    ops = (RowOp.CONVOLVE,)

    def moments(self, rows: Rows, chunk: ChunkKind) -> tuple[Moment, ...]:
        (at,) = rows
        frames = chunk.frames(self.conv.factor)
        x = self.conv.c_in * frames * at.new * self.conv.width
        buffer = self.conv.buffer(at, frames)
        return (x + buffer + self.conv.norm(at, frames), 0), (x + buffer + self.conv.result(at, frames), 1)

    def time_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        return (self.conv.time_cache(rows[0], corner=corner),)

    def row_slots(self, rows: Rows, chunk: ChunkKind, *, corner: bool) -> tuple[int, ...]:
        return (self.conv.row_cache(rows[0], chunk.frames(self.conv.factor), corner=corner),)

    def multiply_adds(self, rows: Rows, chunk: ChunkKind) -> int:
        return self.conv.multiply_adds(rows[0], chunk.frames(self.conv.factor))


LayerShape = ResidualShape | UpsampleShape | HeadShape


def layer_shapes(config: VideoVaeConfig, latent_width: int) -> tuple[LayerShape, ...]:
    """The layers after the stem, in order, for latents of `latent_width` columns."""
    return tuple(_layer_shapes(config, latent_width))


def _layer_shapes(config: VideoVaeConfig, width: int) -> Iterator[LayerShape]:
    mult = config.dim_mult[::-1]
    widths = [config.dim * m for m in (mult[0], *mult)]
    temporal = config.temporal_downsample[::-1]
    factor = 1
    for stage, (c_before, c_out) in enumerate(pairwise(widths)):
        if stage:  # the first stage belongs to the stem; every later one begins where an upsampler ended
            yield UpsampleShape(c_before, width, factor, temporal[stage - 1])
            width, factor = 2 * width, factor * (2 if temporal[stage - 1] else 1)
            for block in range(config.num_res_blocks + 1):
                c_in = c_before // 2 if block == 0 else c_out
                yield ResidualShape(ConvShape(c_in, c_out, width, factor), ConvShape(c_out, c_out, width, factor))
    yield HeadShape(ConvShape(widths[-1], 3, width, factor))


def stem_channels(config: VideoVaeConfig) -> int:
    """Channels of the stem's output."""
    return config.dim * config.dim_mult[-1]


def stem_live(config: VideoVaeConfig, pixels: int, frames: int, queries: int, size: int) -> int:
    """Most elements of `size` bytes alive while the stem runs over `frames` latent frames of `pixels` latent pixels.

    A residual block holds its input, one buffer of three frames, one result, and four frames of caches. The
    attention, `queries` at a time, holds its input with q, k and v beside what `attention_live` counts; parts are
    joined at the end.
    """
    c = stem_channels(config)
    residual = (1 + 3 + 1 + (2 * PAST_FRAMES if frames > 1 else 0)) * c * pixels + pixels + c
    rest = pixels % queries
    parts = [(queries, pixels - rest - queries), (rest, pixels - rest)] if rest else [(queries, pixels - queries)]
    mixing = max(c * before + attention_live(c, some, pixels, size) for some, before in parts)
    joining = 2 * c * pixels if queries < pixels else 0
    return max(residual, (1 + 3) * c * pixels + max(mixing, joining))


def attention_live(channels: int, queries: int, keys: int, size: int) -> int:
    """Most elements of `size` bytes alive inside attention without a fused kernel, beside its inputs.

    As torch's plain form has it: q, k and v in float32 where they are not already, then scaled q and k with the
    scores, or scaled q with the scores before and after the softmax, all of it in float32.
    """
    width = max(1, FLOAT32_BYTES // size)
    widened = channels * (queries + 2 * keys) if width > 1 else 0
    scores = queries * keys
    return width * (widened + channels * queries + scores + max(channels * keys, scores))


def stem_multiply_adds(config: VideoVaeConfig, pixels: int, frames: int) -> int:
    """Operations of the stem: 1x1 and 3x3x3 convolutions, residual blocks, attention."""
    c, z = stem_channels(config), config.z_dim
    blocks = 2 + config.num_res_blocks + 1
    per_pixel = z * z + WINDOW * z * c + blocks * 2 * WINDOW * c * c + 4 * c * c
    return frames * (per_pixel * pixels + 2 * pixels * pixels * c)
