"""The order in which tensor cores read the scales of blocks of a matrix: 128 rows by 4 columns at a time. Pure.

R rows and C columns of a matrix of scales, one byte each; a lane is one of 32 rows that are read together. The byte
of scale (r, c) lies at ``((r // 128) * nblk + c // 4) * 512 + (r % 32) * 16 + ((r % 128) // 32) * 4 + c % 4``, where
nblk is the number of columns, padded to fours, divided by four (cuBLAS, "1D block scaling factors layout").
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_ROWS, TILE_COLUMNS, LANES = 128, 4, 32


def round_up(size: int, multiple: int) -> int:
    """The smallest multiple that is not below `size`."""
    return -(-size // multiple) * multiple


def swizzled_shape(rows: int, columns: int) -> tuple[int, int]:
    """The shape that a matrix of scales of `rows` and `columns` has once it is padded to whole tiles."""
    return round_up(rows, TILE_ROWS), round_up(columns, TILE_COLUMNS)


def swizzle(scales: Tensor) -> Tensor:
    """Scales [R, C] of one byte each in the order of tensor cores, as [R padded, C padded] of the same dtype."""
    rows, columns = scales.shape
    padded_rows, padded_columns = shape = swizzled_shape(rows, columns)
    padded = F.pad(scales.view(torch.uint8), (0, padded_columns - columns, 0, padded_rows - rows))
    tiles = padded.view(padded_rows // TILE_ROWS, -1, LANES, padded_columns // TILE_COLUMNS, TILE_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).reshape(shape).view(scales.dtype)


def unswizzle(stored: Tensor, rows: int, columns: int) -> Tensor:
    """The scales [R, C] of what `swizzle` made. Raises ValueError when `stored` has another number of bytes."""
    padded_rows, padded_columns = shape = swizzled_shape(rows, columns)
    if stored.numel() != padded_rows * padded_columns:
        raise ValueError(f"{stored.numel()} block scales instead of {padded_rows} x {padded_columns}")
    flat = stored.reshape(-1).view(torch.uint8)
    tiles = flat.view(padded_rows // TILE_ROWS, padded_columns // TILE_COLUMNS, LANES, -1, TILE_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).reshape(shape)[:rows, :columns].contiguous().view(stored.dtype)


def swizzled_rows(stored: Tensor, columns: int, start: int, stop: int) -> Tensor:
    """The stored scales of the rows from `start`, which begins a tile, to `stop`, of a matrix of `columns` scales."""
    return stored.reshape(-1, round_up(columns, TILE_COLUMNS))[start : round_up(stop, TILE_ROWS)]
