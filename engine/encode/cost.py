"""Predicts one cut of the encode: peak live bytes on the card, bytes in host memory, operations. Pure.

A step's live bytes are the encoder's weights, the row caches as the strip before left them, what this step has
stored so far, and what the layer that runs keeps alive. When the tail runs, a chunk's row caches are gone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise

import torch

from engine.decode.cost import FIRST_FRAME, LATER_FRAME
from engine.decode.cut import Cut
from engine.decode.footprint import FLOAT32_BYTES, ChunkKind
from engine.decode.rows import LayerRows, strip_ranges
from engine.encode.layer_shapes import layer_shapes
from engine.encode.schedule import input_schedule
from engine.encode.tail_cost import (
    latents_made_on_host,
    tail_cache,
    tail_caches,
    tail_channels,
    tail_live,
    tail_multiply_adds,
)
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import vae_of

StripRows = tuple[tuple[LayerRows, ...], ...]  # rows of one strip, by layer of `layer_shapes`
Slots = list[tuple[int, ...]]  # elements in the row cache slots of every layer

PIXEL_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class EncodeCost:
    """Bytes on the card and in host memory; operations, two per multiply-add, as FlopCounterMode counts."""

    peak_bytes: int
    host_bytes: int
    flop: int


@lru_cache(maxsize=16)
def encoder_weight_values(config: VideoVaeConfig) -> int:
    """Parameters of the encoder and of `conv1` after it."""
    with torch.device("meta"):
        vae = vae_of(config)
    return sum(p.numel() for module in (vae.encoder, vae.conv1) for p in module.parameters())


@lru_cache(maxsize=256)
def _schedule(config: VideoVaeConfig, height: int, strip_rows: int) -> tuple[tuple[StripRows, ...], tuple[int, ...]]:
    """Rows of every layer in every strip, and for every strip the first one that is like it and follows one like it."""
    shapes, patch = layer_shapes(config, config.spatial_factor), config.patch_size
    ops = tuple(op for shape in shapes for op in shape.ops)
    cuts = strip_ranges(height // patch, strip_rows // patch)
    flat = input_schedule(ops, height // patch, cuts)
    ends = list(accumulate((len(shape.ops) for shape in shapes), initial=0))
    strips = tuple(tuple(rows[a:b] for a, b in pairwise(ends)) for rows in flat)
    first: dict[object, int] = {}
    signatures = [tuple(map(_relative, rows)) for rows in flat]
    pairs = zip([(), *signatures], signatures, strict=False)
    return strips, tuple(first.setdefault(pair, strip) for strip, pair in enumerate(pairs))


def _relative(at: LayerRows) -> tuple[int, ...]:
    """What of a layer's rows the formulas use; with the same for all layers before it, it fixes every delay too."""
    return at.kept, at.new, at.keep, at.out, at.top_zeros, at.bottom_zeros, at.in_start - at.out_start * _stride(at)


def _stride(at: LayerRows) -> int:
    return 2 if at.op.out_height(2) == 1 else 1


@lru_cache(maxsize=4096)  # so that a plan for another budget costs nothing
def encode_cost(cut: Cut, width: int, config: VideoVaeConfig, dtype: torch.dtype) -> EncodeCost:
    """What encoding pictures of `width` columns takes, cut in strips as `cut` says, every value of type `dtype`.

    Host memory is without the pixels, but for the rows of one strip in float32, as a source may make them.
    """
    return _EncodeCost(cut, width, config).in_bytes(dtype.itemsize)


class _EncodeCost:
    """The sums over strips and chunks. Most strips are alike, so their terms are computed once."""

    def __init__(self, cut: Cut, width: int, config: VideoVaeConfig) -> None:
        self.cut = cut
        self.config = config
        self.width = width
        self.shapes = layer_shapes(config, width)
        self.strips, self.alike = _schedule(config, cut.height, cut.strip_rows)
        self.latent_size = (cut.height // config.spatial_factor, width // config.spatial_factor)
        self.pixels = self.latent_size[0] * self.latent_size[1]
        # Chunks that differ in length or in what the caches hold; all others are like the third.
        self.kinds = [self._kind(i) for i in sorted({0, 1, 2, cut.chunks - 1}) if i < cut.chunks]

    def in_bytes(self, size: int) -> EncodeCost:
        """All terms, with values of `size` bytes."""
        tail = tail_live(self.config, *self.latent_size, size)
        steps = max(map(self._steps_live, self.kinds))
        return EncodeCost(
            peak_bytes=size * encoder_weight_values(self.config) + max(tail, size * steps),
            host_bytes=self._host_bytes(size),
            flop=2 * self._multiply_adds(),
        )

    def _steps_live(self, kind: ChunkKind) -> int:
        """The dearest step of a chunk, without weights."""
        return max(self._each_strip(lambda strip: self._step_live(strip, kind)))

    def _step_live(self, strip: int, kind: ChunkKind) -> int:
        """Row caches and what the layer holds at the dearest moment, without weights.

        What the step stores counts beside what the strip before stored: only at its end does it replace it.
        """
        new = self._row_slots(strip, kind)
        most, stored = 0, sum(map(sum, self._row_slots(strip - 1, kind))) if strip else 0
        for i, (shape, rows) in enumerate(zip(self.shapes, self.strips[strip], strict=True)):
            for live, done in shape.moments(rows, kind) if rows[0].new else ():
                most = max(most, stored + sum(new[i][:done]) + live)
            stored += sum(new[i])
        return most

    def _row_slots(self, strip: int, kind: ChunkKind) -> Slots:
        pairs = zip(self.shapes, self.strips[strip], strict=True)
        return [shape.row_slots(rows, kind) if rows[0].new else () for shape, rows in pairs]

    def _host_bytes(self, size: int) -> int:
        """Latents, the strips' output and the caches.

        A cache keeps what it replaced last until it stores again, in that memory if it can.
        """
        latents = FLOAT32_BYTES * self.config.z_dim * self.cut.latent_frames * self.pixels
        window = size * self.cut.longest_chunk * tail_channels(self.config) * self.pixels
        in_tail, in_steps = (
            max(map(self._far_in_tail, self.kinds)),
            max(self._far_in_steps(k, size) for k in self.kinds),
        )
        return latents + latents_made_on_host(self.config) + window + max(size * in_tail, in_steps)

    def _far_in_tail(self, kind: ChunkKind) -> int:
        """Elements: the tail's caches while a frame of the chunk runs, beside the time caches that its steps left."""
        renews = kind.index and self.cut.latent_frames > 2  # neither the first frame nor the last does
        renewed = 2 * tail_cache(self.config, self.pixels) if renews else 0
        caches = 0 if self.cut.latent_frames == 1 else tail_caches(self.config, self.pixels)
        replaced = self._time_before(len(self.strips) - 1, kind)
        return caches + renewed + replaced + sum(self._each_strip(lambda strip: self._time_cache(strip, kind)))

    def _far_in_steps(self, kind: ChunkKind, size: int) -> int:
        """Bytes: time caches at the dearest strip, with those being replaced, and the pixels that it is given."""
        new = self._each_strip(lambda strip: self._time_cache(strip, kind))
        old = self._each_strip(lambda strip: self._time_before(strip, kind))
        replaced_last = self._time_before(len(old) - 1, self._kind(kind.index - 1)) if kind.index else 0
        spare = [replaced_last, *old[:-1]]
        before, after = list(accumulate(old, initial=0)), list(accumulate(new, initial=0))
        pixels = FLOAT32_BYTES * PIXEL_CHANNELS * kind.frames(self.config.temporal_factor) * self.width
        held = (
            size * (after[s] + before[-1] - before[s]) + max(size * n, size * o + pixels * self._pixel_rows(s))
            for s, (n, o) in enumerate(zip(new, spare, strict=True))
        )
        in_tail = tail_caches(self.config, self.pixels) if kind.index else 0
        replaced_in_tail = tail_cache(self.config, self.pixels) if kind.index > 1 else 0
        return size * (in_tail + replaced_in_tail) + max(held)

    def _pixel_rows(self, strip: int) -> int:
        return self.config.patch_size * self.strips[strip][0][0].new

    def _time_before(self, strip: int, kind: ChunkKind) -> int:
        return self._time_cache(strip, self._kind(kind.index - 1)) if kind.index else 0

    def _time_cache(self, strip: int, kind: ChunkKind) -> int:
        """Elements that a strip leaves for the next chunk."""
        if kind.last:
            return 0
        return sum(s.time_cache(rows, kind) for s, rows in zip(self.shapes, self.strips[strip], strict=True))

    def _multiply_adds(self) -> int:
        """All steps, summed over the strips as they are cut, and the tail."""
        frames = self.cut.latent_frames
        first = sum(self._each_strip(lambda strip: self._strip_multiply_adds(strip, FIRST_FRAME)))
        later = sum(self._each_strip(lambda strip: self._strip_multiply_adds(strip, LATER_FRAME)))
        return first + (frames - 1) * later + tail_multiply_adds(self.config, self.pixels, frames)

    def _strip_multiply_adds(self, strip: int, kind: ChunkKind) -> int:
        return sum(s.multiply_adds(rows, kind) for s, rows in zip(self.shapes, self.strips[strip], strict=True))

    def _kind(self, chunk: int) -> ChunkKind:
        start, stop = self.cut.chunk_latent_range(chunk)
        return ChunkKind(stop - start, chunk, chunk == self.cut.chunks - 1)

    def _each_strip(self, count: Callable[[int], int]) -> list[int]:
        """`count` of every strip, computed once for strips that are alike and follow strips that are alike."""
        known = {strip: count(strip) for strip in set(self.alike)}
        return [known[strip] for strip in self.alike]
