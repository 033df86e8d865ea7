"""Predicts one cut of the decode: peak live bytes on the card, bytes in host memory, operations, data moved. Pure.

A step's live bytes are the decoder's weights, the caches as the steps before left them, what this step has stored
so far, what the layer that runs keeps alive, and the finished rows that the consumer of the step before still holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, zip_longest

import torch

from engine.decode.cut import CachePlace, Cut, DecodeOrder
from engine.decode.footprint import FLOAT32_BYTES, ChunkKind, LayerShape
from engine.decode.layer_shapes import layer_shapes
from engine.decode.rows import LayerRows, RowOp, strip_ranges, strip_schedule
from engine.decode.stem_cost import stage_cache, stem_caches, stem_channels, stem_live, stem_multiply_adds
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import vae_of

StripRows = tuple[tuple[LayerRows, ...], ...]  # rows of one strip, by layer of `layer_shapes`
Slots = list[tuple[int, ...]]  # elements in the cache slots of every layer
Signature = tuple[tuple[int, ...], ...]

FIRST_FRAME = ChunkKind(latents=1, index=0, last=False)
LATER_FRAME = ChunkKind(latents=1, index=1, last=False)


@dataclass(frozen=True, slots=True)
class CutCost:
    """Bytes on the card, in host memory and in files; operations (two per multiply-add, as FlopCounterMode counts);
    and bytes copied to and from caches.
    """

    peak_bytes: int
    host_bytes: int
    file_bytes: int
    flop: int
    near_bytes_moved: int
    far_bytes_moved: int


@lru_cache(maxsize=16)
def decoder_weight_values(config: VideoVaeConfig) -> int:
    """Parameters of the decoder and of `conv2` before it."""
    with torch.device("meta"):
        vae = vae_of(config)
    return sum(p.numel() for module in (vae.decoder, vae.conv2) for p in module.parameters())


@lru_cache(maxsize=256)
def _schedule(
    config: VideoVaeConfig, latent_height: int, strip_rows: int
) -> tuple[tuple[StripRows, ...], tuple[int, ...]]:
    """Rows of every layer in every strip, and for every strip the first one like it."""
    shapes = layer_shapes(config, 1)
    ops = tuple(op for shape in shapes for op in shape.ops)
    patch = config.patch_size  # the network's last rows are those of patches
    cuts = strip_ranges(latent_height * config.spatial_factor // patch, strip_rows // patch)
    strips = tuple(_by_layer(rows, shapes) for rows in strip_schedule(ops, latent_height, cuts))
    return strips, _alike(strips)


def _by_layer(rows: tuple[LayerRows, ...], shapes: tuple[LayerShape, ...]) -> StripRows:
    flat = iter(rows)
    return tuple(tuple(next(flat) for _ in shape.ops) for shape in shapes)


@lru_cache(maxsize=4096)  # so that a plan for another budget costs nothing
def cut_cost(cut: Cut, latent_width: int, config: VideoVaeConfig, dtype: torch.dtype) -> CutCost:
    """What decoding latents of `latent_width` columns takes, cut as `cut` says, every value of type `dtype`."""
    costs = _CutCost(cut, latent_width, config)
    if cut.caches is not CachePlace.FILES:
        return costs.in_bytes(dtype.itemsize)
    on_host = cut_cost(replace(cut, caches=CachePlace.HOST), latent_width, config, dtype)
    kept = costs.latent_bytes() + costs.latent_frame_bytes()
    return replace(on_host, host_bytes=kept, file_bytes=on_host.host_bytes - costs.latent_bytes())


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
        self.far_on_card = cut.caches is CachePlace.CARD
        # Chunks that differ in length or in what the caches hold; all others are like the third.
        self.kinds = [self._kind(i) for i in sorted({0, 1, 2, cut.chunks - 1}) if i < cut.chunks]

    def in_bytes(self, size: int) -> CutCost:
        """All terms, with values of `size` bytes; what is not kept on the card is in host memory."""
        frame = self.latent_frame_bytes()
        far = frame if self.far_on_card else size * self._far_most(frame // size)
        near_moved, far_moved = self._moved()
        return CutCost(
            peak_bytes=size * decoder_weight_values(self.config) + self._peak(size),
            host_bytes=self.latent_bytes() + far,
            file_bytes=0,
            flop=2 * self._multiply_adds(),
            near_bytes_moved=near_moved * size,
            far_bytes_moved=far_moved * size,
        )

    def latent_bytes(self) -> int:
        """The latents, which are float32 and wait in host memory throughout."""
        return FLOAT32_BYTES * self.config.z_dim * self.cut.latent_frames * self.pixels

    def latent_frame_bytes(self) -> int:
        """A latent frame on its way to the card, twice, with the mean and deviation of its channels."""
        return FLOAT32_BYTES * self.config.z_dim * 2 * (self.pixels + 1)

    def _peak(self, size: int) -> int:
        """The dearest moment on the card without the decoder's weights: a latent frame in the stem, or a step."""
        on_card = self.far_on_card
        held = size * (self._stem_window() + self._stem_caches()) if on_card else 0
        between = max(self._between_chunks(kind) for kind in self.kinds)
        stem = stem_live(self.config, self.latent_height, self.latent_width, size, caches_on_card=on_card)
        steps = max(self._steps_live(kind, self._far(kind) if on_card else []) for kind in self.kinds)
        return held + max(stem + size * between, size * steps)

    def _stem_window(self) -> int:
        """The stem's output that waits for the strips."""
        frames = self.cut.latent_frames if self.strips_outer else self.cut.longest_chunk
        return frames * stem_channels(self.config) * self.pixels

    def _stem_caches(self) -> int:
        return stem_caches(self.config, self.pixels) if self.cut.latent_frames > 1 else 0

    def _between_chunks(self, kind: ChunkKind) -> int:
        """What is on the card while the stem runs a chunk: rows just handed out, and far caches that are kept there."""
        if self.strips_outer:
            return 0
        return self._handed_out(0, kind) + (self._time_of_clip(kind) if self.far_on_card else 0)

    def _far_most(self, latent_frame: int) -> int:
        """Most elements in far memory off the card: the stem's output and caches, and the caches of the steps.

        Beside the caches there is the larger of what a step replaced and what the next one stores. The stem has
        ended before strips that are outer begin.
        """
        renewed = stage_cache(self.config, self.pixels) if self.cut.latent_frames > 2 else 0
        in_stem = self._stem_caches() + renewed + latent_frame
        steps = max(self._far_of_steps(kind) for kind in self.kinds)
        if self.strips_outer:
            return self._stem_window() + max(in_stem, steps)
        between = max(self._time_of_clip(kind) for kind in self.kinds)
        return self._stem_window() + max(in_stem + between, self._stem_caches() + steps)

    def _time_of_clip(self, kind: ChunkKind) -> int:
        """Time caches of all strips before a chunk runs."""
        return sum(self._each_strip(lambda strip: _total(self._time_before(strip, kind))))

    def _kind(self, chunk: int) -> ChunkKind:
        start, stop = self.cut.chunk_latent_range(chunk)
        return ChunkKind(stop - start, chunk, chunk == self.cut.chunks - 1)

    def _steps_live(self, kind: ChunkKind, far: list[int]) -> int:
        """The dearest step of a chunk, without weights; `far` is what the far caches have on the card, by strip."""
        steps = self._each_strip(lambda strip: self._step_live(strip, kind))
        return max(map(sum, zip(steps, far, strict=True))) if far else max(steps)

    def _step_live(self, strip: int, kind: ChunkKind) -> int:
        """Own caches and what the layer holds at the dearest moment, with the rows that the step before handed out.

        What the step stores counts beside what the steps before stored: only at its end does it replace it.
        """
        old, new = self._own(strip, kind)
        most, stored = 0, sum(map(sum, old))
        for i, (shape, rows) in enumerate(zip(self.shapes, self.strips[strip], strict=True)):
            for live, done in shape.moments(rows, kind) if rows[-1].out else ():
                most = max(most, stored + sum(new[i][:done]) + live)
            stored += sum(new[i])
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
        values = self.config.picture_channels * self.latent_width * self.config.spatial_factor // self.config.patch_size
        return values * frames * self.strips[strip][-1][0].out

    def _own(self, strip: int, kind: ChunkKind) -> tuple[Slots, Slots]:
        """What the caches on the card hold for this very step, before and after each layer runs."""
        if self.strips_outer:
            return self._time_before(strip, kind), self._time_after(strip, kind)
        old, new = self._rows_before(strip, kind), self._rows_after(strip, kind)
        if not self.far_on_card:
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
        """What the time caches hold for other strips while each strip of a chunk runs, where frames are outer."""
        before = list(accumulate(self._each_strip(lambda strip: _total(self._time_before(strip, kind))), initial=0))
        after = list(accumulate(self._each_strip(lambda strip: _total(self._time_after(strip, kind))), initial=0))
        return [after[s] + before[-1] - before[s + 1] for s in range(len(self.strips))]

    def _far_of_steps(self, kind: ChunkKind) -> int:
        """Most that the far caches ever hold while a chunk of `kind` runs, with the entries that are being replaced."""
        if self.strips_outer:
            return max(self._each_strip(lambda strip: self._rows_of_clip(strip, kind) + self._renewed(strip, kind)))
        old = self._each_strip(lambda strip: _total(self._time_before(strip, kind)))
        new = self._each_strip(lambda strip: _total(self._time_after(strip, kind)))
        spare = [old[-1], *old[:-1]]
        return max(f + o + max(n, s) for f, o, n, s in zip(self._far(kind), old, new, spare, strict=True))

    def _rows_of_clip(self, strip: int, kind: ChunkKind) -> int:
        """Row caches of all chunks when `strip` comes to a chunk: those before it have run, the others have not."""
        start, _ = self.cut.chunk_latent_range(kind.index)
        done = self._per_latent(lambda at: _total(self._rows_after(strip, at)), 0, start)
        return done + self._per_latent(lambda at: _total(self._rows_before(strip, at)), start, self.cut.latent_frames)

    def _renewed(self, strip: int, kind: ChunkKind) -> int:
        """The larger of what the step before replaced and what this one stores: one takes the other's memory."""
        before = self._kind((kind.index or self.cut.chunks) - 1)
        replaced = _total(self._rows_before(strip, before)) if kind.index or strip > 1 else 0
        return max(replaced, _total(self._rows_after(strip, kind)))

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
        """A count that is proportional to frames, over all chunks."""
        return self._per_latent(count, 0, self.cut.latent_frames)

    def _per_latent(self, count: Callable[[ChunkKind], int], start: int, stop: int) -> int:
        """A count that is proportional to frames, over the latent frames [start, stop): the first, and later ones."""
        first = 1 if start == 0 < stop else 0
        return first * count(FIRST_FRAME) + (stop - start - first) * count(LATER_FRAME)

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
