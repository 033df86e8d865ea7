"""The text encoder block by block: all texts of a job pass a block before the next one comes.

So the blocks, which may wait in host memory or in files, are copied once for everything. The results are those of the
encoder itself to the bit. Lives on the engine's thread.

L tokens, C channels of a token.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from engine.models.text_encoder import TextEncoder

Walk = Callable[[], Iterable[nn.Module]]
OnBlock = Callable[[int], None]


def encode_texts(
    encoder: TextEncoder, texts: Sequence[Sequence[int]], walk: Walk, on_block: OnBlock | None = None
) -> list[Tensor]:
    """The rows [L, C] of each of the `texts`, given as token ids, on the device of the encoder's last norm.

    walk: the encoder's blocks. The table of tokens is read where it is. `on_block(i)` is called after block i; what it
    raises leaves this call.
    """
    device = encoder.norm.weight.device
    streams = [_embedded(encoder, ids, device) for ids in texts]  # each [1, L, C]
    masks = [torch.ones(1, 1, 1, len(ids), dtype=torch.bool, device=device) for ids in texts]
    for i, block in enumerate(walk()):
        for number, mask in enumerate(masks):
            streams[number] = block(streams[number], mask)
        if on_block is not None:
            on_block(i)
    return [encoder.norm(x)[0] for x in streams]


def _embedded(encoder: TextEncoder, ids: Sequence[int], device: torch.device) -> Tensor:
    table = encoder.token_embedding
    return table(torch.tensor([list(ids)], device=table.weight.device)).to(device)  # [1, L, C]
