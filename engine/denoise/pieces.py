"""How the tokens of a video are cut: pieces of so many, slabs of whole rows, and the runs that share a time. Pure.

B batch, L tokens, l tokens of a piece; G runs of L/G consecutive tokens, each of which shares one time.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.models.rope import Grid


def pieces_of(tokens: int, size: int) -> list[slice]:
    """All of `tokens` in order, `size` at a time; the last piece is what is left over."""
    return [slice(start, min(start + size, tokens)) for start in range(0, tokens, size)]


@dataclass(frozen=True, slots=True)
class Slab:
    """Tokens that follow each other and are a box in the grid: whole frames, or whole rows of one frame."""

    tokens: slice
    frames: slice
    rows: slice


def slabs_of(grid: Grid, size: int) -> Iterator[Slab]:
    """All tokens of `grid` in order in slabs of at most `size` tokens, or of one row where a row has more."""
    frames, rows, columns = grid
    area = rows * columns
    for together in pieces_of(frames, max(1, size // area)):
        for part in pieces_of(rows, min(rows, max(1, size // columns))):
            first = together.start * area
            tokens = slice(first + part.start * columns, (together.stop - 1) * area + part.stop * columns)
            yield Slab(tokens, together, part)


@dataclass(frozen=True, slots=True)
class Runs:
    """`count` runs of equal length that `tokens` tokens fall into. Pieces need not begin or end where runs do."""

    tokens: int
    count: int

    def __post_init__(self) -> None:
        if self.tokens % self.count:
            raise ValueError(f"{self.tokens} tokens do not fall into {self.count} equal runs")

    def of_piece(self, values: Tensor, piece: slice) -> Tensor:
        """What each token of `piece` is given of `values` [B, G, ...]: [B, l, ...], or [B, 1, ...] for one run."""
        length = self.tokens // self.count
        first, last = piece.start // length, (piece.stop - 1) // length
        if first == last:
            return values[:, first : last + 1]
        return values[:, torch.arange(piece.start, piece.stop, device=values.device) // length]

    def are_crossed(self, size: int) -> bool:
        """Whether any piece of `size` tokens reaches into a second run."""
        length = self.tokens // self.count
        return any(piece.start // length != (piece.stop - 1) // length for piece in pieces_of(self.tokens, size))
