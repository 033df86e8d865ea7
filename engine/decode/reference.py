"""The field's overlap-and-blend decode, to reproduce old results: inexact and dear by design. Engine's thread.

Every tile is decoded as if it were the whole picture, attention and zero padding included, and the overlaps are
cross-faded. Sums wait in host memory, one row of tiles at a time, so that they do not grow with the picture's height.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.cut import CachePlace
from engine.decode.plan import DecodePlan, plan
from engine.decode.reference_cost import COLOURS
from engine.decode.streaming import DecodedBlock, decode_blocks
from engine.decode.tiling import ReferenceTiling, TileSpan, check_tiling, tile_columns, tile_rows
from engine.models.video_vae import VideoVae

TILE_SETTINGS = DecodeSettings(DecodeMode.WHOLE, chunk_latents=1)


def reference_blocks(
    vae: VideoVae, latents: Tensor, tiling: ReferenceTiling, on_layer: Callable[[], None] | None = None
) -> Iterator[DecodedBlock]:
    """Decode normalised latents [1, z, T, h, w] in tiles, one block of all frames for every row of tiles.

    Blocks are float32 in host memory: the rows that no later row of tiles touches, from the top. `on_layer` is called
    before every convolution and may raise to stop. Raises INVALID_SETTING for a tiling that the VAE cannot cut.
    """
    check_tiling(tiling, vae.config.spatial_factor)
    return _rows_of_tiles(_TileDecoder(vae, latents, on_layer), tiling)


def _rows_of_tiles(decoder: "_TileDecoder", tiling: ReferenceTiling) -> Iterator[DecodedBlock]:
    rows, columns = tile_rows(tiling, decoder.height), tile_columns(tiling, decoder.width)
    sums = _BlendedRows(decoder.frames, rows[0].size, decoder.width)
    for row, below in zip(rows, (*rows[1:], None), strict=True):
        with torch.no_grad():  # entered anew for every block: a generator must not hold the caller's grad mode
            for column in columns:
                decoder.add(row, column, sums)
            finished = sums.rest(row.size) if below is None else sums.take(below.start - row.start)
        yield DecodedBlock(0, row.start, finished)
        del finished  # the consumer's by now; the next row must not find it alive here


class _TileDecoder:
    """Decodes single tiles of some latents."""

    def __init__(self, vae: VideoVae, latents: Tensor, on_layer: Callable[[], None] | None) -> None:
        self._vae = vae
        self._latents = latents
        self._on_layer = on_layer
        self._factor = vae.config.spatial_factor
        self.frames = vae.config.frames(latents.shape[2])
        self.height, self.width = (latents.shape[axis] * self._factor for axis in (3, 4))

    def add(self, row: TileSpan, column: TileSpan, sums: "_BlendedRows") -> None:
        """Decode the tile whole and add it, weighted, to the sums of its row of tiles."""
        latents = self._latents[:, :, :, self._of_latents(row), self._of_latents(column)]
        mask = blend_mask(row, column)
        sums.add_weights(column.start, mask)
        for block in decode_blocks(self._vae, latents, self._plan(latents), self._on_layer):
            sums.add(block, column.start, mask)

    def _plan(self, latents: Tensor) -> DecodePlan:
        frames, height, width = latents.shape[2:]
        whole = plan((frames, height, width), self._vae.config, self._vae.conv2.weight.dtype, TILE_SETTINGS)
        return replace(whole, caches=CachePlace.CARD)  # where `reference_cost` counts them, also of a single frame

    def _of_latents(self, span: TileSpan) -> slice:
        return slice(span.start // self._factor, span.stop // self._factor)


def blend_mask(row: TileSpan, column: TileSpan) -> Tensor:
    """Weights of a tile's pixels, [rows, columns] in host memory: the smaller of what row and column weigh."""
    down, across = (torch.tensor(span.weights(), dtype=torch.float32, device="cpu") for span in (row, column))
    return torch.minimum(down[:, None], across)


class _BlendedRows:
    """Sums of weighted tiles and of their weights, over the rows of one row of tiles at full width."""

    def __init__(self, frames: int, rows: int, width: int) -> None:
        self._values = torch.zeros((COLOURS, frames, rows, width), dtype=torch.float32, device="cpu")
        self._weights = torch.zeros((rows, width), dtype=torch.float32, device="cpu")

    def add_weights(self, column: int, mask: Tensor) -> None:
        """Count a tile's weights [R, C], its first column at `column`."""
        self._weights[: mask.shape[0], column : column + mask.shape[1]] += mask

    def add(self, block: DecodedBlock, column: int, mask: Tensor) -> None:
        """Add rows of a tile (on any device), weighted by their part of its mask [R, C], from `column` on."""
        _, frames, rows, columns = block.rgb.shape
        in_time = slice(block.frame_start, block.frame_start + frames)
        in_rows = slice(block.row_start, block.row_start + rows)  # not all, where a tile had to be cut to fit
        place = self._values[:, in_time, in_rows, column : column + columns]
        place.addcmul_(block.rgb.cpu().float(), mask[in_rows])

    def take(self, rows: int) -> Tensor:
        """The upper `rows`, blended; those below them move up."""
        taken = self._blend(rows).clone()
        for sums in (self._values, self._weights):
            _move_up(sums, rows)
        return taken

    def rest(self, rows: int) -> Tensor:
        """The upper `rows`, blended, without a copy: nothing may be added any more."""
        return self._blend(rows)

    def _blend(self, rows: int) -> Tensor:
        return self._values[:, :, :rows].div_(self._weights[:rows])


def _move_up(sums: Tensor, rows: int) -> None:
    """Drop the first `rows` of [..., R, W]; zeros come in from below. In place, in parts that do not overlap."""
    kept = sums.shape[-2] - rows
    for start in range(0, kept, rows):
        stop = min(start + rows, kept)
        sums[..., start:stop, :].copy_(sums[..., start + rows : stop + rows, :])
    sums[..., kept:, :].zero_()
