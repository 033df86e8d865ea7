"""The transformer in pieces of tokens: the same layers and result as `WanTransformer`, in far less memory.

Only the stream of tokens, the keys and values of one block, and the latents are ever whole; everything else is as
large as a piece. Blocks come one after the other from wherever they wait. Lives on the engine's thread; without
gradients.

B batch, T frames, C channels, H height, W width of the latents; L tokens, S text rows, I image tokens, N heads, D
channels of a head, E = N*D channels of a token; G runs of L/G consecutive tokens, each of which shares one time.
"""

from collections.abc import Callable, Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.attention.attend import Attend
from engine.denoise.block_pieces import BlockInPieces, Given, run_block
from engine.denoise.pieces import Runs, pieces_of, slabs_of
from engine.models.rope import Grid, rope_table
from engine.models.transformer import Block, OnBlock, TransformerConfig, WanTransformer, sinusoid

Walk = Callable[[], Iterable[nn.Module]]
"""All blocks in order, each with its tensors on the device until the next is asked for."""


class Denoiser:
    """Predicts velocities with a network of which only the shell, everything but the blocks, must be on the device."""

    def __init__(
        self,
        network: WanTransformer,
        walk: Walk,
        chunk_tokens: int,
        attend: Attend,
        in_pieces: type[BlockInPieces] = BlockInPieces,
    ) -> None:
        """`chunk_tokens` tokens, at least one, go through a layer together; `attend` computes self-attention.

        in_pieces: what takes them through a block, of `engine.denoise.compiled` where blocks are to be compiled.
        """
        self._network = network
        self._walk = walk
        self._chunk_tokens = chunk_tokens
        self._attend = attend
        self._in_pieces = in_pieces

    def velocity(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        *,
        image: Tensor | None = None,
        on_block: OnBlock | None = None,
    ) -> Tensor:
        """The velocity [B, out_dim, T, H, W] in float32, of what `WanTransformer.forward` takes, which stays as it is.

        Raises ValueError for image features that the model has no branch for, and for times that do not fall on equal
        runs of tokens. `on_block(i)` is called after block i; what it raises leaves this call.
        """
        config = self._network.config
        grid = config.grid((latents.shape[2], latents.shape[3], latents.shape[4]))
        with torch.inference_mode(False), torch.no_grad():  # in inference mode quantised layers cannot be compiled
            time = self._time_vectors(timestep)  # [B, G, E]
            given = self._given(grid, time, text, image)
            x = self._embedded(latents, grid)  # [B, L, E]
            self._run_blocks(x, given, on_block)
            return self._finished(x, time, grid)

    def _time_vectors(self, timestep: Tensor) -> Tensor:
        vectors = self._network.time_embedding(sinusoid(timestep.flatten(), self._network.config.freq_dim))  # [B*G, E]
        return vectors.unflatten(0, (timestep.shape[0], -1))  # [B, G, E]

    def _given(self, grid: Grid, time: Tensor, text: Tensor, image: Tensor | None) -> Given:
        network, dtype = self._network, self._network.patch_embedding.weight.dtype
        if image is not None:
            if network.img_emb is None:
                raise ValueError("image features for a model without the image branch")
            image = network.img_emb(image, dtype)  # [B, I, E]
        rope = rope_table(grid, network.config.head_dim, time.device)
        runs = Runs(rope.shape[0], time.shape[1])
        pieces = pieces_of(rope.shape[0], self._chunk_tokens)
        return Given(network.text_embedding(text.to(dtype)), image, modulation_of(network, time), runs, rope, pieces)

    def _embedded(self, latents: Tensor, grid: Grid) -> Tensor:
        """The tokens of the latents, which are the stream before the first block: [B, L, E] float32."""
        pt, ph, _ = self._network.config.patch_size
        t, h, w = grid
        x = latents.new_empty(latents.shape[0], t * h * w, self._network.config.dim, dtype=torch.float32)
        for slab in slabs_of(grid, self._chunk_tokens):
            box = latents[:, :, scaled(slab.frames, pt), scaled(slab.rows, ph)]
            x[:, slab.tokens] = self._network.patch_embedding(box)
        return x

    def _run_blocks(self, x: Tensor, given: Given, on_block: OnBlock | None) -> None:
        """Take the stream through all blocks. One memory of keys and values serves them all."""
        b, tokens, _ = x.shape
        heads, channels = self._network.config.num_heads, self._network.config.head_dim
        k, v = (given.text.new_empty(b, heads, tokens, channels) for _ in range(2))
        for i, block in enumerate(self._walk()):
            run_block(cast(Block, block), x, (k, v), given, self._attend, self._in_pieces)
            if on_block is not None:
                on_block(i)

    def _finished(self, x: Tensor, time: Tensor, grid: Grid) -> Tensor:
        """The head's values of all patches, put where they belong."""
        config = self._network.config
        (t, h, w), (pt, ph, pw), runs = grid, config.patch_size, Runs(x.shape[1], time.shape[1])
        out = x.new_empty(x.shape[0], config.out_dim, t * pt, h * ph, w * pw)
        for slab in slabs_of(grid, self._chunk_tokens):
            values = self._network.head(x[:, slab.tokens], runs.of_piece(time, slab.tokens))  # [B, l, pt*ph*pw*C]
            box = (slab.frames.stop - slab.frames.start, slab.rows.stop - slab.rows.start, w)
            out[:, :, scaled(slab.frames, pt), scaled(slab.rows, ph)] = unpatchified(values, box, config)
        return out


def modulation_of(network: WanTransformer, time: Tensor) -> Tensor:
    """What the blocks get of the times [B, G, E]: [B, G, 6, E] float32, computed where the projection's weight is.

    One of the six vectors after the other: a weight that is stored narrow is never widened whole.
    """
    activation, projection = network.time_projection[0], cast(nn.Linear, network.time_projection[1])
    y, dim = activation(time).to(projection.weight.device), network.config.dim
    out = time.new_empty(*time.shape[:2], 6, dim)
    for i, rows in enumerate(pieces_of(6 * dim, dim)):
        out[:, :, i] = F.linear(y, projection.weight[rows].float(), projection.bias[rows].float())
    return out


def scaled(tokens: slice, patch: int) -> slice:
    """Where the patches of `tokens` lie along one side of the latents."""
    return slice(tokens.start * patch, tokens.stop * patch)


def unpatchified(values: Tensor, box: Grid, config: TransformerConfig) -> Tensor:
    """The values [B, t*h*w, pt*ph*pw*C] of the patches of a box of (t, h, w) tokens as [B, C, t*pt, h*ph, w*pw]."""
    x = torch.unflatten(torch.unflatten(values, 2, (*config.patch_size, config.out_dim)), 1, box)
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)  # [B, C, t, pt, h, ph, w, pw]
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)  # [B, C, t*pt, h*ph, w*pw]
