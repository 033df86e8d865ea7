"""Functions of other packages as `Attend`: layout, scale, and what they would do to their inputs. Engine thread.

Each function here imports its package, so it is called only once the package is asked for; what the import raises
leaves the call. What a kernel raises while it runs leaves the `Attend`: nothing else is tried instead. All of them
attend queries to keys of another number, and scale scores by 1/sqrt(D) unless told otherwise.
"""

from importlib import import_module

from torch import Tensor

from engine.attention.attend import Attend
from engine.attention.packages import FLASH_ATTN, SAGE, SAGE_3


def flash_attn() -> Attend:
    """``flash_attn_func``: exact, of [B, L, N, D]; the transposed tensors are views, going in and coming out."""
    function = import_module(FLASH_ATTN.module).flash_attn_func

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return function(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)

    return attend


def sageattn() -> Attend:
    """``sageattn``: queries and keys in INT8, weights and values in FP8 or FP16, whichever the card is fastest at."""
    function = import_module(SAGE.module).sageattn

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return function(q, k, v, tensor_layout="HND", is_causal=False)

    return attend


def sageattn_3(*, mean_of_blocks: bool) -> Attend:
    """``sageattn3_blackwell``: everything in NVFP4, queries without their mean, which is put back in float32.

    mean_of_blocks: a mean for each 128 queries, which is a little more exact and takes memory for a score of every
    block with every key; else one mean of all queries.
    """
    function = import_module(SAGE_3.module).sageattn3_blackwell

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        # It takes the mean off the keys where they lie.
        return function(q, k.clone(), v, is_causal=False, per_block_mean=mean_of_blocks)

    return attend
