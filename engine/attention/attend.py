"""Attention as every back end offers it, and torch's own, which is always there. Engine thread.

B batch, N heads, l queries, L keys, D channels of a head.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries [B, N, l, D], keys and values [B, N, L, D], all of one dtype, to [B, N, l, D]; scores times 1/sqrt(D)."""


def sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Torch's own attention, without score matrices wherever it has a kernel for that."""
    return F.scaled_dot_product_attention(q, k, v)
