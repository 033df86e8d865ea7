"""Values of GGUF's quantised blocks, on any device, in memory that does not grow with the weight. Pure.

A weight is worked on in pieces, so that what its values pass through on the way is never alive for all of them.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from engine.weights.gguf_k_blocks import q2_k, q3_k, q4_k, q5_k, q6_k
from engine.weights.gguf_simple_blocks import q4_0, q4_1, q5_0, q5_1, q8_0
from engine.weights.gguf_table_blocks import iq3_s, iq4_nl, iq4_xs
from engine.weights.gguf_types import TYPES_BY_NAME

# Large enough that starting kernels takes a card little of its time, small beside the weights of a large network.
PIECE_VALUES = 1 << 21
WORK_BYTES = 24 << 20  # never more than this is alive beside the blocks and the result

FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "F32": lambda blocks: blocks.clone().view(torch.float32),  # a copy begins where a float may
    "F16": lambda blocks: blocks.clone().view(torch.float16),
    "BF16": lambda blocks: blocks.clone().view(torch.bfloat16),
    "Q4_0": q4_0,
    "Q4_1": q4_1,
    "Q5_0": q5_0,
    "Q5_1": q5_1,
    "Q8_0": q8_0,
    "Q2_K": q2_k,
    "Q3_K": q3_k,
    "Q4_K": q4_k,
    "Q5_K": q5_k,
    "Q6_K": q6_k,
    "IQ4_NL": iq4_nl,
    "IQ4_XS": iq4_xs,
    "IQ3_S": iq3_s,
}


def dequantize_blocks(blocks: Tensor, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The values of `blocks`, uint8 [..., bytes of whole blocks], as `dtype` of `shape` on the blocks' device.

    kind: the name of the blocks' type. Computed in float32, exactly as the `gguf` package does, then rounded to
    `dtype`; any rows of a weight can be had without the others. Takes up to WORK_BYTES beside the result. Raises
    ValueError for a kind without formula, and when the blocks hold another number of values than `shape`.
    """
    if kind not in FORMULAS:
        raise ValueError(f"no formula for blocks of type {kind}")
    stored = TYPES_BY_NAME[kind]
    if blocks.dtype is not torch.uint8 or blocks.numel() * stored.values != math.prod(shape) * stored.byte_count:
        raise ValueError(f"{blocks.dtype} {list(blocks.shape)} is not {list(shape)} in {kind}")
    rows = blocks.reshape(-1, stored.byte_count)  # B bytes
    values = torch.empty(rows.shape[0], stored.values, dtype=dtype, device=blocks.device)
    step = PIECE_VALUES // stored.values
    for piece, result in zip(rows.split(step), values.split(step), strict=True):
        result.copy_(FORMULAS[kind](piece))
    return values.view(shape)
