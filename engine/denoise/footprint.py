"""What the sublayers of a block make of some tokens at their dearest moments, in bytes of live tensors. Pure.

Each moment is what is alive beside the stream, and beside keys and values that are kept. Names as in
`engine.denoise.block_pieces`; `width` is the bytes of a value in the dtype of the products, `work` what a quantised
layer works with beside its input and output.
"""

from dataclasses import dataclass

from engine.attention.workspace import AttentionSize, attention_bytes
from engine.decode.footprint import FLOAT32_BYTES
from engine.generation import AttentionBackend

NARROW_BYTES = 2  # of a value, which back ends of attention count with


@dataclass(frozen=True, slots=True)
class PieceShape:
    """`tokens` tokens of all clips of a batch, of `dim` channels, and the numbers that all moments share."""

    tokens: int
    dim: int
    width: int
    work: int

    def bytes_of(self, bytes_a_channel: int) -> int:
        """Of tensors that hold so many bytes for each channel of each token."""
        return self.tokens * self.dim * bytes_a_channel


def modulation_moment(piece: PieceShape, *, crossed: bool) -> int:
    """The normed tokens and the shifted ones; where tokens have times of their own, shift and scale of each."""
    tensors = 5 if crossed else 2
    return piece.bytes_of(tensors * FLOAT32_BYTES)


def projection_moment(piece: PieceShape) -> int:
    """The tokens and their product; beside them its float32 values before and after their norm, or work."""
    return piece.bytes_of(2 * piece.width) + max(piece.bytes_of(2 * FLOAT32_BYTES), piece.work)


def attention_moment(piece: PieceShape, backend: AttentionBackend, size: AttentionSize) -> int:
    """The queries and what a back end works with; or what it found, that again with its heads together, its product."""
    wider = size.heads * size.queries * size.head_dim * (piece.width - NARROW_BYTES)
    attending = piece.bytes_of(piece.width) + attention_bytes(backend, size) + wider
    return max(attending, piece.bytes_of(3 * piece.width) + piece.work)


def sum_moment(piece: PieceShape, *, crossed: bool) -> int:
    """What is added to the stream, the tensor it was made of, and the gate, of each token where that is its own."""
    gates = 2 * FLOAT32_BYTES if crossed else 0
    return piece.bytes_of(2 * piece.width + gates)


def feed_forward_moment(piece: PieceShape, ffn_dim: int) -> int:
    """The tokens, and the wide layer before and after its GELU; or either product while it is made."""
    wide = piece.tokens * ffn_dim * piece.width
    first = piece.bytes_of(piece.width) + wide + piece.work
    last = piece.bytes_of(2 * piece.width) + wide + piece.work
    return max(first, piece.bytes_of(piece.width) + 2 * wide, last)
