"""Exact streaming decode: latents in, finished rows out, nothing computed twice. Lives on the engine's thread.

One step function and two loop orders. Strip-major finishes all frames of a strip before the next strip begins;
frame-major finishes all strips of a chunk of frames before the next chunk begins; one strip is the whole picture.
When a step runs out of memory, it is taken back, the strips still to come are halved, and it goes on from there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from engine.decode.caches import Cache
from engine.decode.cut import CachePlace, DecodeOrder
from engine.decode.plan import DecodePlan
from engine.decode.recut import attempt, divide_pasts, halved
from engine.decode.room import Room, RoomInFiles, room_on_card, room_on_host
from engine.decode.rows import LayerRows, Range, rows_of_strip, strip_ranges
from engine.decode.stem import Stem
from engine.decode.strip_layers import Step
from engine.decode.strip_network import row_ops, strip_layers
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import unpatchify

Unfinished = tuple[Range, int]  # a strip and the first chunk that it still lacks


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """Finished rows of some frames: rgb [3, F, R, W] in the decoder's dtype, -1..1 but not clamped."""

    frame_start: int
    row_start: int
    rgb: Tensor


def decode_blocks(
    vae: VideoVae,
    latents: Tensor,
    plan: DecodePlan,
    on_layer: Callable[[], None] | None = None,
    *,
    on_recut: Callable[[int], None] | None = None,
    cache_folder: Path | None = None,
) -> Iterator[DecodedBlock]:
    """Decode normalised latents [1, z, T, h, w] as `plan` cuts them, one block per strip and chunk.

    Blocks come from the card that holds `vae`. `on_layer` is called before every convolution and may raise to stop.
    `on_recut` is told the rows of a strip from now on, after memory ran out. `cache_folder` is where a plan with
    caches in files puts them.
    Raises what `is_out_of_memory` knows when memory runs out and strips cannot be made smaller, and
    OUTPUT_NOT_WRITABLE when there is no disk left for caches.
    """
    far, files = far_room(plan.caches, cache_folder)
    try:
        yield from StripWalk(vae, latents, plan, far, on_layer or _ignore, on_recut or _ignore).blocks()
    finally:
        if files is not None:
            files.close()


def far_room(place: CachePlace, folder: Path | None) -> tuple[Room, RoomInFiles | None]:
    """The room of caches at `place`, and the files that must be closed after use. Files need a `folder`."""
    match place:
        case CachePlace.CARD:
            return room_on_card, None
        case CachePlace.HOST:
            return room_on_host, None
        case CachePlace.FILES:
            if folder is None:
                raise ValueError("caches in files need a folder")
            files = RoomInFiles(folder)
            return files, files


class StripWalk:
    """The layers below the stem and their caches, taken step by step through strips and chunks."""

    def __init__(
        self,
        vae: VideoVae,
        latents: Tensor,
        plan: DecodePlan,
        far: Room,
        on_layer: Callable[[], None],
        on_recut: Callable[[int], None],
    ) -> None:
        self._plan = plan
        self._on_layer = on_layer
        self._on_recut = on_recut
        self._config = vae.config
        self._patch = vae.config.patch_size
        self._device = vae.conv2.weight.device
        self._strips_outer = plan.order is DecodeOrder.STRIP_MAJOR
        window = plan.latent_frames if self._strips_outer else plan.longest_chunk
        self._stem = Stem(vae, latents, window, far, on_layer)
        self._layers = strip_layers(vae)
        self._ops = row_ops(self._layers)
        near, self._far = Cache(), Cache(far)
        self._time, self._row = (near, self._far) if self._strips_outer else (self._far, near)

    def blocks(self) -> Iterator[DecodedBlock]:
        """All blocks, in the order of the plan."""
        strips = strip_ranges(self._plan.height, self._plan.strip_rows)
        if self._strips_outer:
            return self._strip_major(strips)
        return self._frame_major(strips)

    def _strip_major(self, strips: list[Range]) -> Iterator[DecodedBlock]:
        self._run_stem(0, self._plan.latent_frames)
        to_do = [(strip, 0) for strip in strips]
        while to_do:
            (strip, first), *to_do = to_do
            for chunk in range(first, self._plan.chunks):
                block = self._try_step(strip, chunk)
                if block is None:
                    to_do = self._halve([(strip, chunk), *to_do])
                    break
                yield block
                del block  # the consumer's by now; the next step must not find it alive here

    def _frame_major(self, strips: list[Range]) -> Iterator[DecodedBlock]:
        for chunk in range(self._plan.chunks):
            self._run_stem(*self._plan.chunk_latent_range(chunk))
            done = 0  # output rows
            while done < self._plan.height:
                strip = next(strip for strip in strips if strip[0] == done)
                block = self._try_step(strip, chunk)
                if block is None:
                    strips = [half for half, _ in self._halve([(strip, chunk) for strip in strips])]
                    continue
                done = strip[1]
                yield block
                del block

    def _run_stem(self, start: int, stop: int) -> None:
        with torch.no_grad():
            self._stem.run(start, stop)

    def _try_step(self, strip: Range, chunk: int) -> DecodedBlock | None:
        """The rows of `strip` in the frames of `chunk`; None when memory ran out, and then nothing has happened."""
        return attempt(partial(self._step, strip, chunk), (self._time, self._row), strip, self._device)

    def _step(self, strip: Range, chunk: int) -> DecodedBlock:
        rows = self._rows(strip)
        start, stop = self._plan.chunk_latent_range(chunk)
        last = chunk == self._plan.chunks - 1
        step = Step(strip[0], chunk, last, self._strips_outer, rows, self._time, self._row, self._on_layer)
        x = self._stem.load(slice(start, stop), slice(rows[0].in_start, rows[0].in_stop))
        for layer in self._layers:
            x = layer(x, step)
        frame_start = self._config.frames(start) if start else 0
        return DecodedBlock(frame_start, strip[0], (x if self._patch == 1 else unpatchify(x, self._patch))[0])

    def _rows(self, strip: Range) -> tuple[LayerRows, ...]:
        """Rows of every layer; the network's last rows are those of patches."""
        of_patches = (strip[0] // self._patch, strip[1] // self._patch)
        return rows_of_strip(self._ops, self._plan.latent_height, of_patches)

    def _halve(self, strips: list[Unfinished]) -> list[Unfinished]:
        """Every strip in two, with its time caches."""
        for strip, _ in strips:
            parts = halved(strip, self._patch)
            divide_pasts(self._time, self._layers, self._rows, strip, parts, strips_outer=self._strips_outer)
        halves = [(half, chunk) for strip, chunk in strips for half in halved(strip, self._patch)]
        self._on_recut(max(stop - start for (start, stop), _ in halves))
        return halves


def _ignore(*_: int) -> None:
    pass
