"""Rotary position embedding in three dimensions: where a token stands, as angles its queries and keys are turned by.

Written from the formulas of the official ``wan/modules/model.py``. Pure.

B batch, T frames, H height, W width of the grid of tokens; L = T*H*W tokens, N heads, D channels of a head.
"""

import torch
from torch import Tensor

Grid = tuple[int, int, int]


def axis_rotations(positions: int, channels: int) -> Tensor:
    """Unit complex numbers [positions, channels/2] of the angles pos * 10000^(-2i/channels), complex128."""
    exponents = torch.arange(0, channels, 2, dtype=torch.float64) / -channels
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), torch.pow(10000.0, exponents))
    return torch.polar(torch.ones_like(angles), angles)


def rope_table(grid: Grid, head_dim: int, device: torch.device) -> Tensor:
    """Rotations [L, 1, D/2] (complex64) of the tokens of `grid`, width fastest.

    The D/2 channel pairs are shared out among time, height and width; time takes what equal thirds leave over.
    """
    third = 2 * (head_dim // 6)
    frames, rows, columns = (
        axis_rotations(positions, channels).to(device, torch.complex64)
        for positions, channels in zip(grid, (head_dim - 2 * third, third, third), strict=True)
    )
    parts = (frames[:, None, None], rows[:, None], columns)  # [T, 1, 1, .], [H, 1, .], [W, .]
    table = torch.cat([part.expand(*grid, -1) for part in parts], dim=-1)  # [T, H, W, D/2]
    return table.flatten(0, 2)[:, None]  # [L, 1, D/2]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Turn each pair of adjacent channels of x [B, L, N, D] by rope [L, 1, D/2]; in float32, returned as float32."""
    pairs = torch.view_as_complex(torch.unflatten(x.float(), -1, (-1, 2)))  # [B, L, N, D/2]
    return torch.view_as_real(pairs * rope).flatten(-2)  # [B, L, N, D]
