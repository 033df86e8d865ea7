"""Exact streaming encode: rows of pixels in, normalised latents out, nothing computed twice. Engine's thread.

All strips of a chunk of frames come before the next chunk. This order takes the frames as a video file gives them,
once each; with strips outermost every strip would need the whole video again, and row caches that grow with it. What
waits in host memory is the last two frames of every convolution's input, however long the video is; on the card are
the rows that one chunk's strips leave each other.

When a step runs out of memory, it is taken back, all strips are halved, and it goes on from there.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from engine.decode.caches import Cache
from engine.decode.recut import attempt, divide_pasts, halved
from engine.decode.room import room_on_host
from engine.decode.rows import LayerRows, Range, strip_ranges
from engine.decode.strip_layers import Step
from engine.encode.pixels import PixelSource
from engine.encode.plan import EncodePlan
from engine.encode.schedule import rows_of_input
from engine.encode.strip_network import row_ops, strip_layers
from engine.encode.tail import Tail
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import patchify


def encode_video(
    vae: VideoVae,
    pixels: PixelSource,
    plan: EncodePlan,
    on_layer: Callable[[], None] | None = None,
    *,
    on_recut: Callable[[int], None] | None = None,
) -> Tensor:
    """Normalised latents [1, z, T, h, w], float32 in host memory, of the video that `pixels` gives the rows of.

    The same as `VideoVae.encode` of the whole video. The card is that which holds `vae`. `on_layer` is called before
    every convolution and may raise to stop. `on_recut` is told the rows of a strip from now on, after memory ran out.
    Raises what `pixels` raises, and what `is_out_of_memory` knows when memory runs out and strips cannot be made
    smaller.
    """
    with torch.no_grad():
        return EncodeWalk(vae, pixels, plan, on_layer or _ignore, on_recut or _ignore).latents()


class EncodeWalk:
    """The layers before the middle and their caches, taken step by step through chunks and strips; then the tail."""

    def __init__(
        self,
        vae: VideoVae,
        pixels: PixelSource,
        plan: EncodePlan,
        on_layer: Callable[[], None],
        on_recut: Callable[[int], None],
    ) -> None:
        self._plan = plan
        self._pixels = pixels
        self._on_layer = on_layer
        self._on_recut = on_recut
        self._like = vae.conv1.weight
        self._patch = vae.config.patch_size
        self._tail = Tail(vae, plan.latent_shape, plan.longest_chunk, room_on_host, on_layer)
        self._layers = strip_layers(vae)
        self._ops = row_ops(self._layers)
        self._time, self._row = Cache(room_on_host), Cache()

    def latents(self) -> Tensor:
        """Everything, chunk after chunk."""
        strips = strip_ranges(self._plan.height, self._plan.strip_rows)
        for chunk in range(self._plan.chunks):
            strips = self._run_chunk(chunk, strips)
            self._tail.run(*self._plan.chunk_latent_range(chunk))
        return self._tail.latents

    def _run_chunk(self, chunk: int, strips: list[Range]) -> list[Range]:
        """All strips of a chunk of frames; the strips as they are cut in the end."""
        done = 0  # rows of pixels
        while done < self._plan.height:
            strip = next(strip for strip in strips if strip[0] == done)
            if self._try_step(strip, chunk):
                done = strip[1]
            else:
                strips = self._halve(strips)
        return strips

    def _try_step(self, strip: Range, chunk: int) -> bool:
        """Whether there was memory for the step; without it, nothing has happened."""
        step = partial(self._step, strip, chunk)
        return attempt(step, (self._time, self._row), strip, self._like.device) is not None

    def _step(self, strip: Range, chunk: int) -> int:
        """Run a strip through the layers; how many rows of the tail's input came of it."""
        rows = self._rows(strip)
        last = chunk == self._plan.chunks - 1
        step = Step(strip[0], chunk, last, False, rows, self._time, self._row, self._on_layer)
        x = self._load(strip, chunk)
        for layer in self._layers:
            x = layer(x, step)
        self._tail.take(x, rows[-1].out_start)
        return rows[-1].out

    def _load(self, strip: Range, chunk: int) -> Tensor:
        """Pixels, or patches of them, [1, C, T, rows, W] on the card."""
        x = self._pixels(self._plan.chunk_frame_range(chunk), strip)[None].to(self._like)
        return x if self._patch == 1 else patchify(x, self._patch)

    def _rows(self, strip: Range) -> tuple[LayerRows, ...]:
        """Rows of every layer; the network's first rows are those of patches."""
        of_patches = (strip[0] // self._patch, strip[1] // self._patch)
        return rows_of_input(self._ops, self._plan.height // self._patch, of_patches)

    def _halve(self, strips: list[Range]) -> list[Range]:
        """Every strip in two, with its time caches."""
        for strip in strips:
            parts = halved(strip, self._patch)
            divide_pasts(self._time, self._layers, self._rows, strip, parts, strips_outer=False)
        halves = [half for strip in strips for half in halved(strip, self._patch)]
        self._on_recut(max(stop - start for start, stop in halves))
        return halves


def _ignore(*_: int) -> None:
    pass
