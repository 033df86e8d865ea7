"""What all block formats of GGUF are made of: bit fields and half floats, on any device. Pure.

B is blocks. Every function takes the bytes of one part of all blocks, uint8 [B, bytes].
"""

import torch
from torch import Tensor


def bit_fields(packed: Tensor, width: int, run: int) -> Tensor:
    """Unsigned fields of `width` bits, uint8 [B, bytes * 8 / width].

    Of each `run` bytes first come the lowest fields of all of them, then the next higher ones.
    """
    shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=packed.device)
    fields = packed.unflatten(1, (-1, 1, run)) >> shifts[:, None]  # B runs fields bytes
    return fields.bitwise_and_((1 << width) - 1).flatten(1)


def halves(packed: Tensor) -> Tensor:
    """Half floats as float32 [B, bytes / 2]."""
    return packed.clone(memory_format=torch.contiguous_format).view(torch.float16).float()


def scaled(codes: Tensor, scales: Tensor) -> Tensor:
    """Each group of a block times its scale, float32 [B, values]; codes [B, values], scales float32 [B, groups]."""
    groups = codes.float().unflatten(1, (scales.shape[1], -1))
    return groups.mul_(scales[:, :, None]).flatten(1)


def looked_up(codes: Tensor, table: tuple[int, ...]) -> Tensor:
    """The entries of `table` that the codes [B, values] stand for, float32 [B, values]."""
    entries = torch.tensor(table, dtype=torch.float32).to(codes.device)
    return entries.index_select(0, codes.flatten().int()).view(codes.shape)
