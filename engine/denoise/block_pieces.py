"""One block of the transformer run in pieces of tokens, exactly. Lives on the engine's thread.

Only self-attention looks from token to token, and of the tokens it looks at it needs no more than keys and values.
So every piece leaves its keys and values first; then each goes through the whole block by itself, and is done. The
stream x is changed in place: what a piece still needs of the others is in their keys and values already.

B batch, L tokens, l tokens of a piece, S text rows, I image tokens, N heads, D channels of a head, E = N*D channels
of a token; m is l where the tokens of a piece have times of their own, else 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.attention.attend import Attend, sdpa
from engine.denoise.pieces import Runs
from engine.models.rope import rotate
from engine.models.transformer import Block
from engine.models.transformer_layers import Attention, in_runs, modulate

# Rows of a block's modulation: shift, scale and gate of self-attention, then of the feed-forward.
ATTENTION, FEED_FORWARD = (0, 1, 2), (3, 4, 5)

KeysAndValues = tuple[Tensor, Tensor]  # [B, N, ., D] each


@dataclass(frozen=True, slots=True)
class Given:
    """What all blocks of a pass are given beside the stream of tokens.

    text [B, S, E] and image [B, I, E] in the dtype of the products; time [B, G, 6, E] of `runs`; rope [L, 1, D/2].
    """

    text: Tensor
    image: Tensor | None
    time: Tensor
    runs: Runs
    rope: Tensor
    pieces: list[slice]


def run_block(
    block: Block, x: Tensor, room: KeysAndValues, given: Given, attend: Attend, in_pieces: "type[BlockInPieces]"
) -> None:
    """Take the stream x [B, L, E] (float32) through `block`, in place. `room` [B, N, L, D] is written over.

    in_pieces: the sublayers, as they are here or compiled.
    """
    walk = in_pieces(block, x, room, given, attend)
    for piece in given.pieces:
        walk.leave_key_and_value(piece)
    rows = rows_attended_to(block, given)
    for piece in given.pieces:
        walk.attend_to_tokens(piece)
        walk.attend_to_rows(piece, rows)
        walk.feed_forward(piece)


def rows_attended_to(block: Block, given: Given) -> list[KeysAndValues]:
    """Keys and values of the text and, where the pass has them, of images: the same for all tokens."""
    layer = block.cross_attn
    rows = [(heads_first(layer, layer.norm_k(layer.k(given.text))), heads_first(layer, layer.v(given.text)))]
    if given.image is not None:
        k, v = layer.norm_k_img(layer.k_img(given.image)), layer.v_img(given.image)
        rows.append((heads_first(layer, k), heads_first(layer, v)))
    return [(k.to(v.dtype), v) for k, v in rows]


class BlockInPieces:
    """One block at work on a stream; every method takes one piece of it one sublayer further."""

    def __init__(self, block: Block, x: Tensor, room: KeysAndValues, given: Given, attend: Attend) -> None:
        self._block = block
        self._x = x
        self._k, self._v = room
        self._given = given
        self._attend = attend
        self._learnt = block.modulation.float()  # [1, 6, E]

    def leave_key_and_value(self, piece: slice) -> None:
        """Store what the tokens of the piece are attended to by."""
        layer = self._block.self_attn
        y = self._modulated(self._block.norm1, ATTENTION, piece)
        self._v[:, :, piece] = heads_first(layer, layer.v(y))
        k = heads_last(layer, layer.norm_k(layer.k(y)))
        self._k[:, :, piece] = rotate(k, self._given.rope[piece]).transpose(1, 2)

    def attend_to_tokens(self, piece: slice) -> None:
        """Self-attention, to the keys and values of all pieces."""
        found = self._attend(self._queries(piece), self._k, self._v)  # [B, N, l, D]
        self._add_gated(piece, self._block.self_attn.o(heads_together(found)), ATTENTION)

    def attend_to_rows(self, piece: slice, rows: list[KeysAndValues]) -> None:
        """Cross-attention, to text and images with a softmax each."""
        layer, of_text = self._block.cross_attn, rows[0]
        y = self._block.norm3(self._x[:, piece]).to(self._given.text.dtype)
        q = heads_first(layer, layer.norm_q(layer.q(y))).to(of_text[1].dtype)  # [B, N, l, D]
        del y
        found = heads_together(sdpa(q, *of_text))
        for of_image in rows[1:]:
            found = found + heads_together(sdpa(q, *of_image))
        self._x[:, piece] += layer.o(found)

    def feed_forward(self, piece: slice) -> None:
        """The two wide layers."""
        y = self._modulated(self._block.norm2, FEED_FORWARD, piece)
        self._add_gated(piece, self._block.ffn(y), FEED_FORWARD)

    def _queries(self, piece: slice) -> Tensor:
        layer = self._block.self_attn
        y = self._modulated(self._block.norm1, ATTENTION, piece)
        q = rotate(heads_last(layer, layer.norm_q(layer.q(y))), self._given.rope[piece])
        return q.to(self._v.dtype).transpose(1, 2)  # [B, N, l, D]

    def _modulated(self, norm: nn.Module, sublayer: tuple[int, int, int], piece: slice) -> Tensor:
        """The normed tokens, shifted and scaled by their times, in the dtype of the products: [B, l, E]."""
        shift, scale, _ = sublayer
        y = modulate(norm(self._x[:, piece]), self._vector(shift, piece), self._vector(scale, piece))
        return y.to(self._given.text.dtype)

    def _add_gated(self, piece: slice, y: Tensor, sublayer: tuple[int, int, int]) -> None:
        gate = self._vector(sublayer[2], piece)
        runs = gate.shape[1]
        in_runs(self._x[:, piece], runs).addcmul_(in_runs(y, runs), gate)

    def _vector(self, row: int, piece: slice) -> Tensor:
        """A row of the modulation as the tokens of the piece get it, [B, m, 1, E]."""
        of_time = self._given.runs.of_piece(self._given.time[:, :, row], piece)  # [B, m, E]
        return (self._learnt[:, None, row] + of_time)[:, :, None]


def heads_last(layer: Attention, x: Tensor) -> Tensor:
    """[B, ., E] as [B, ., N, D]."""
    return torch.unflatten(x, -1, (-1, layer.head_dim))


def heads_first(layer: Attention, x: Tensor) -> Tensor:
    """[B, ., E] as [B, N, ., D]."""
    return heads_last(layer, x).transpose(1, 2)


def heads_together(x: Tensor) -> Tensor:
    """[B, N, l, D] as [B, l, E]."""
    return x.transpose(1, 2).flatten(2)
