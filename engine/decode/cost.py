"""Predicts one cut of the decode: peak live bytes on the card, bytes in host memory, operations, data moved. Pure.

A step's live bytes are the decoder's weights, the caches as they stand while a layer runs (those before it already
hold this step's excerpts, those after it the last step's), what the layer itself keeps alive, and the finished rows
that the consumer of the step before still holds.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, zip_longest

import torch

from engine.decode.cut import Cut, DecodeOrder
from engine.decode.footprint import (
    FLOAT32_BYTES,
    ChunkKind,
    LayerShape,
    layer_shapes,
    stem_channels,
    stem_live,
    stem_multiply_adds,
)
from engine.decode.rows import LayerRows, RowOp, strip_ends, strip_schedule
from engine.decode.stem import MAX_SCORES
from engine.models.video_vae import VideoVae, VideoVaeConfig

StripRows = tuple[tuple[LayerRows, ...], ...]  # rows of one strip, by layer of `layer_shapes`
Slots = list[tuple[int, ...]]  # elements in the cache slots of every layer
Signature = tuple[tuple[int, ...], ...]

FIRST_FRAME = ChunkKind(latents=1, index=0, last=False)
LATER_FRAME = ChunkKind(latents=1, index=1, last=False)


@dataclass(frozen=True, slots=True)
class CutCost:
    """Bytes, operations (two per multiply-add, as FlopCounterMode counts) and bytes copied to and from caches."""

    peak_bytes: int
    host_bytes: int
    flop: int
    near_bytes_moved: int
    far_bytes_moved: int


@lru_cache(maxsize=16)
def decoder_weight_values(config: VideoVaeConfig) -> int:
    """Parameters of the decoder and of `conv2` before it."""
    with torch.device("meta"):
        vae = VideoVae(config)
    return sum(p.numel() for module in (vae.decoder, vae.conv2) for p in module.parameters())


@lru_cache(maxsize=256)
def _schedule(
    config: VideoVaeConfig, latent_height: int, strip_rows: int
) -> tuple[tuple[StripRows, ...], tuple[int, ...]]:
    """Rows of every layer in every strip, and for every strip the first one like it."""
    shapes = layer_shapes(config, 1)
    ops = tuple(op for shape in shapes for op in shape.ops)
    ends = strip_ends(latent_height * config.spatial_factor, strip_rows)
    strips = tuple(_by_layer(rows, shapes) for rows in strip_schedule(ops, latent_height, ends))
    return strips, _alike(strips)


def _by_layer(rows: tuple[LayerRows, ...], shapes: tuple[LayerShape, ...]) -> StripRows:
    flat = iter(rows)
    return tuple(tuple(next(flat) for _ in shape.ops) for shape in shapes)


@lru_cache(maxsize=4096)  # so that a plan for another budget costs nothing
def cut_cost(cut: Cut, latent_width: int, config: VideoVaeConfig, dtype: torch.dtype) -> CutCost:
    """What decoding latents of `latent_width` columns takes, cut as `cut` says, every value of type `dtype`."""
    return _CutCost(cut, latent_width, config).in_bytes(dtype.itemsize)


class _CutCost:
    """The sums over strips and chunks. Most strips are alike, so their terms are computed once."""

    def __init__(self, cut: Cut, latent_width: int, config: VideoVaeConfig) -> None:
        self.cut = cut
        self.config = config
        self.shapes = layer_shapes(config, latent_width)
        self.latent_height = cut.height // config.spatial_factor
        self.latent_width = latent_width
        self.pixels = self.latent_height * latent_width
        self.strips, self.alike = _schedule(config, self.latent_height, cut.strip_rows)
        self.strips_outer = cut.order is DecodeOrder.STRIP_MAJOR
        # Chunks that differ in length or in what the caches hold; all others are like the third.
        self.kinds = [self._kind(i) for i in sorted({0, 1, 2, cut.chunks - 1}) if i < cut.chunks]

    def in_bytes(self, size: int) -> CutCost:
        """All terms, with values of `size` bytes; latents are float32.

        In host memory the latents and the stem's output wait throughout. While the stem runs, two frames of latents
        with their mean and deviation are made beside them; once it has ended, the far caches.
        """
        stem_host = self.cut.latent_frames * stem_channels(self.config) * self.pixels
        latents = FLOAT32_BYTES * self.config.z_dim * self.cut.latent_frames * self.pixels
        latents_made = FLOAT32_BYTES * self.config.z_dim * 2 * (self.pixels + 1)
        on_host = self.cut.caches_on_host
        far = {kind: self._far(kind) for kind in self.kinds}
        far_host = max(self._far_most(kind) for kind in self.kinds) if on_host else 0
        steps = max(self._steps_live(kind, [] if on_host else far[kind]) for kind in self.kinds)
        peak = decoder_weight_values(self.config) + max(self._stem_live(size), steps)
        near_moved, far_moved = self._moved()
        host = stem_host * size + latents + max(far_host * size, latents_made)
        return CutCost(peak * size, host, 2 * self._multiply_adds(), near_moved * size, far_moved * size)

    def _kind(self, chunk: int) -> ChunkKind:
        start, stop = self.cut.chunk_latent_range(chunk)
        return ChunkKind(stop - start, chunk, chunk == self.cut.chunks - 1)

    def _stem_live(self, size: int) -> int:
        queries = min(self.pixels, max(1, MAX_SCORES // self.pixels))
        return stem_live(self.config, self.pixels, self.cut.latent_frames, queries, size)

    def _steps_live(self, kind: ChunkKind, far: list[int]) -> int:
        """The dearest step of a chunk, without weights; `far` is what the far caches have on the card, by strip."""
        steps = self._each_strip(lambda strip: self._step_live(strip, kind))
        return max(map(sum, zip(steps, far, strict=True))) if far else max(steps)

    def _step_live(self, strip: int, kind: ChunkKind) -> int:
        """Own caches and what the layer holds at the dearest moment, with the rows that the step before handed out."""
        old, new = self._own(strip, kind)
        most, stored, waiting = 0, 0, sum(map(sum, old))
        for i, (shape, rows) in enumerate(zip(self.shapes, self.strips[strip], strict=True)):
            for live, done in shape.moments(rows, kind) if rows[-1].out else ():
                most = max(most, stored + waiting + sum(new[i][:done]) - sum(old[i][:done]) + live)
            stored += sum(new[i])
            waiting -= sum(old[i])
        return most + self._handed_out(strip, kind)

    def _handed_out(self, strip: int, kind: ChunkKind) -> int:
        """Colours of the step before, which their consumer still holds."""
        if self.strips_outer:
            strip, chunk = (strip, kind.index - 1) if kind.index else (strip - 1, self.cut.chunks - 1)
        else:
            strip, chunk = (strip - 1, kind.index) if strip else (len(self.strips) - 1, kind.index - 1)
        if strip < 0 or chunk < 0:
            return 0
        frames = self._kind(chunk).frames(self.config.temporal_factor)
        return 3 * frames * self.strips[strip][-1][0].out * self.latent_width * self.config.spatial_factor

    def _own(self, strip: int, kind: ChunkKind) -> tuple[Slots, Slots]:
        """What the caches on the card hold for this very step, before and after each layer runs."""
        if self.strips_outer:
            return self._time_before(strip, kind), self._time_after(strip, kind)
        old, new = self._rows_before(strip, kind), self._rows_after(strip, kind)
        if self.cut.caches_on_host:
            return old, new
        return _joined(old, self._time_before(strip, kind)), _joined(new, self._time_after(strip, kind))

    def _rows_before(self, strip: int, kind: ChunkKind) -> Slots:
        return self._rows_after(strip - 1, kind) if strip else self._nothing()

    def _rows_after(self, strip: int, kind: ChunkKind) -> Slots:
        pairs = zip(self.shapes, self.strips[strip], strict=True)
        return [shape.row_slots(rows, kind, corner=not self.strips_outer) for shape, rows in pairs]

    def _time_before(self, strip: int, kind: ChunkKind) -> Slots:
        return self._time_after(strip, self._kind(kind.index - 1)) if kind.index else self._nothing()

    def _time_after(self, strip: int, kind: ChunkKind) -> Slots:
        if kind.last:
            return self._nothing()
        pairs = zip(self.shapes, self.strips[strip], strict=True)
        return [shape.time_slots(rows, kind, corner=self.strips_outer) for shape, rows in pairs]

    def _nothing(self) -> Slots:
        return [() for _ in self.shapes]

    def _far(self, kind: ChunkKind) -> list[int]:
        """Most that the far caches hold for other steps while each strip of a chunk runs."""
        if self.strips_outer:  # row caches of all chunks: a chunk's are either the last strip's or this one's
            return self._each_strip(lambda strip: self._per_clip(lambda at: self._rows_between(strip, at)))
        before = list(accumulate(self._each_strip(lambda strip: _total(self._time_before(strip, kind))), initial=0))
        after = list(accumulate(self._each_strip(lambda strip: _total(self._time_after(strip, kind))), initial=0))
        strips = range(len(self.strips))
        return [after[s] + before[-1] - before[s + 1] for s in strips]

    def _far_most(self, kind: ChunkKind) -> int:
        """Most that the far caches ever hold while a chunk of `kind` runs."""
        if self.strips_outer:
            return max(self._far(kind))
        own = self._each_strip(lambda s: max(_total(self._time_before(s, kind)), _total(self._time_after(s, kind))))
        return max(map(sum, zip(self._far(kind), own, strict=True)))

    def _rows_between(self, strip: int, kind: ChunkKind) -> int:
        old, new = self._rows_before(strip, kind), self._rows_after(strip, kind)
        return sum(max(sum(a), sum(b)) for a, b in zip(old, new, strict=True))

    def _multiply_adds(self) -> int:
        """Stem and all steps, summed over the strips as they are cut."""
        steps = self._each_strip(lambda strip: self._per_clip(lambda at: self._strip_multiply_adds(strip, at)))
        return sum(steps) + stem_multiply_adds(self.config, self.pixels, self.cut.latent_frames)

    def _strip_multiply_adds(self, strip: int, kind: ChunkKind) -> int:
        pairs = zip(self.shapes, self.strips[strip], strict=True)
        return sum(shape.multiply_adds(rows, kind) for shape, rows in pairs if rows[-1].out)

    def _moved(self) -> tuple[int, int]:
        """Values copied into and out of the near and the far caches during the whole decode."""
        later = self._kind(self.cut.chunks - 2) if self.cut.chunks > 1 else self.kinds[0]
        time = sum(self._each_strip(lambda strip: _total(self._time_after(strip, later)))) * (self.cut.chunks - 1)
        rows = sum(self._each_strip(lambda strip: self._per_clip(lambda at: _total(self._rows_after(strip, at)))))
        return (2 * time, 2 * rows) if self.strips_outer else (2 * rows, 2 * time)

    def _per_clip(self, count: Callable[[ChunkKind], int]) -> int:
        """A count that is proportional to frames, over all chunks: the first, and every later latent frame."""
        return count(FIRST_FRAME) + (self.cut.latent_frames - 1) * count(LATER_FRAME)

    def _each_strip(self, count: Callable[[int], int]) -> list[int]:
        """`count` of every strip, computed once for strips that are alike and follow strips that are alike."""
        known = {strip: count(strip) for strip in set(self.alike)}
        return [known[strip] for strip in self.alike]


def _joined(some: Slots, others: Slots) -> Slots:
    return [tuple(map(sum, zip_longest(a, b, fillvalue=0))) for a, b in zip(some, others, strict=True)]


def _total(slots: Slots) -> int:
    return sum(map(sum, slots))


def _alike(strips: tuple[StripRows, ...]) -> tuple[int, ...]:
    """For every strip the first one that has the same rows and follows one with the same rows."""
    signatures = [tuple(_relative(at) for layer in rows for at in layer) for rows in strips]
    first: dict[tuple[Signature, Signature], int] = {}
    pairs = zip([(), *signatures], signatures, strict=False)
    return tuple(first.setdefault(pair, strip) for strip, pair in enumerate(pairs))


def _relative(at: LayerRows) -> tuple[int, ...]:
    lag = at.in_start - at.out_start if at.op is RowOp.CONVOLVE else 0
    return at.kept, at.new, at.keep, at.out, at.buffer_rows, lag
