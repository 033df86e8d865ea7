"""Weights as eight-bit integers with a scale for all of them or for each output row, rotated or not. Pure.

A rotation multiplies each group of columns by a symmetric orthogonal matrix before rounding, which spreads what
single large columns hold over their group. Being symmetric and orthogonal, it is its own inverse.
"""

import torch
from torch import Tensor

from engine.weights.fp8 import spread

SEED = ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1))


def dequantize_int8(stored: Tensor, scale: Tensor, rotation: int) -> Tensor:
    """Values in float32 of `stored` (int8 [R, C]); `scale` has one element or R; `rotation` 0 or columns of a group.

    Raises ValueError when the sizes do not belong together.
    """
    values = stored.float().mul_(spread(scale, stored))
    return rotated(values, rotation) if rotation else values


def rotated(values: Tensor, group: int) -> Tensor:
    """Each `group` of columns of values [R, C] times the rotation of that size, which also undoes itself."""
    if values.ndim != 2 or values.shape[1] % group:
        raise ValueError(f"a weight of {list(values.shape)} has no whole groups of {group} columns")
    groups = values.view(values.shape[0], -1, group)  # [R, C/group, group]
    return (groups @ rotation_of(group, values.device)).flatten(1)


def rotation_of(size: int, device: torch.device) -> Tensor:
    """The rotation [size, size] in float32: a Kronecker power of SEED over sqrt(size). Raises ValueError off 4^n."""
    seed = torch.tensor(SEED, dtype=torch.float32, device=device)
    matrix = seed
    while len(matrix) < size:
        matrix = torch.kron(matrix, seed)
    if len(matrix) != size:
        raise ValueError(f"a rotation of {size} columns, which is no power of 4")
    return matrix / size**0.5
