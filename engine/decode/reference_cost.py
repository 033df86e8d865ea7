"""What a decode in overlapping tiles costs, in closed form. Pure; the formulas follow `reference` line by line."""

from dataclasses import replace

import torch

from engine.decode.cost import CutCost, cut_cost
from engine.decode.cut import CachePlace, Cut, DecodeOrder
from engine.decode.footprint import FLOAT32_BYTES
from engine.decode.tiling import ReferenceTiling, TileSpan, check_tiling, tile_columns, tile_rows
from engine.models.video_vae import VideoVaeConfig

COLOURS = 3


def reference_cost(
    latent_shape: tuple[int, int, int], config: VideoVaeConfig, dtype: torch.dtype, tiling: ReferenceTiling
) -> CutCost:
    """What `reference_blocks` takes for latents of `latent_shape` (T, h, w), in closed form.

    On the card nothing but the network waits while a tile is decoded: the peak is the dearest tile's. The blend is
    no operation that FlopCounterMode counts. Raises INVALID_SETTING as `reference_blocks` does.
    """
    check_tiling(tiling, config.spatial_factor)
    return _TiledCost(latent_shape, config, dtype, tiling).total()


class _TiledCost:
    """The sums over tiles. Most are alike, and `cut_cost` remembers."""

    def __init__(
        self, latent_shape: tuple[int, int, int], config: VideoVaeConfig, dtype: torch.dtype, tiling: ReferenceTiling
    ) -> None:
        self.latent_frames, height, width = latent_shape
        self.config = config
        self.dtype = dtype
        self.latent_values = config.z_dim * self.latent_frames * height * width
        self.rows = tile_rows(tiling, height * config.spatial_factor)
        self.columns = tile_columns(tiling, width * config.spatial_factor)

    def total(self) -> CutCost:
        """Peaks of the dearest tile, all else summed."""
        tiles = [self._tile(row, column) for row in self.rows for column in self.columns]
        return replace(
            self._tile(self.rows[0], self.columns[0]),
            peak_bytes=max(tile.peak_bytes for tile in tiles),
            host_bytes=self._on_host(),
            flop=sum(tile.flop for tile in tiles),
            near_bytes_moved=sum(tile.near_bytes_moved for tile in tiles),
            far_bytes_moved=sum(tile.far_bytes_moved for tile in tiles),
        )

    def _tile(self, row: TileSpan, column: TileSpan) -> CutCost:
        whole = Cut(self.latent_frames, row.size, DecodeOrder.FRAME_MAJOR, row.size, 1, CachePlace.CARD)
        return cut_cost(whole, column.size // self.config.spatial_factor, self.config, self.dtype)

    def _on_host(self) -> int:
        """The latents, the sums, and at the dearest moment what belongs to a tile and the finished rows.

        The rows that were handed out last are still their consumer's, while the tiles of the next row are decoded
        and while the next finished rows are copied out of the sums.
        """
        width, height = self.columns[0].length, self.rows[0].size
        row_of_sums = FLOAT32_BYTES * COLOURS * self.config.frames(self.latent_frames) * width
        sums = (row_of_sums + FLOAT32_BYTES * width) * height
        most = held = 0
        for row, below in zip(self.rows, (*self.rows[1:], None), strict=True):
            taken = 0 if below is None else row_of_sums * (below.start - row.start)
            most = max(most, held + self._decoding(row), held + taken)
            held = taken
        return FLOAT32_BYTES * self.latent_values + sums + most

    def _decoding(self, row: TileSpan) -> int:
        """What the dearest tile of `row` has in host memory: its own, its mask, and a block that came from the card.

        The block comes as it is and is widened then.
        """
        pixels = row.size * self.columns[0].size
        frames = self.config.temporal_factor if self.latent_frames > 1 else 1
        narrow = 0 if self.dtype is torch.float32 else self.dtype.itemsize
        block = COLOURS * frames * pixels * (narrow + FLOAT32_BYTES)
        return self._tile(row, self.columns[0]).host_bytes + FLOAT32_BYTES * pixels + block
