"""What a back end holds on the card while it attends, as closed formulas. Pure.

Counted are the tensors beside queries, keys and values, the result among them, as the packages' Python sources make
them; the most of all cards where a package does differently on different ones. N heads of all batches together, l
queries, L keys, D channels of a head, values in two bytes.
"""

from dataclasses import dataclass

from engine.generation import AttentionBackend

TILE = 128  # tokens that kernels go through together; what is shorter is padded to it
VALUE_BYTES = 2
SUM_BYTES = 4  # of a query: what its weights add up to
SPLIT_BYTES = 16 << 20  # partial results, where few queries would leave processors without work
FP4_SIXTEENTHS = 9  # of a byte a channel: half a byte, and its share of a scale of one byte for 16 channels


@dataclass(frozen=True, slots=True)
class AttentionSize:
    """The sizes of one call. heads: N, of all batches together; queries: l; keys: L; head_dim: D."""

    heads: int
    queries: int
    keys: int
    head_dim: int


def attention_bytes(backend: AttentionBackend, size: AttentionSize) -> int:
    """Bytes that `backend` holds at most during one call, beside what goes in."""
    match backend:
        case AttentionBackend.SDPA | AttentionBackend.FLASH_ATTN:
            queries = _padded(size.queries)
            return size.heads * queries * (VALUE_BYTES * size.head_dim + SUM_BYTES) + SPLIT_BYTES
        case AttentionBackend.SAGEATTN | AttentionBackend.SAGEATTN_3_FP8:
            return size.heads * _bytes_of_int8(size)
        case AttentionBackend.SAGEATTN_3:
            return size.heads * _bytes_of_fp4(size, _padded(size.queries) // TILE)
        case AttentionBackend.SAGEATTN_3_FP4:
            return size.heads * _bytes_of_fp4(size, 1)


def _bytes_of_int8(size: AttentionSize) -> int:
    """INT8 queries and keys with their scales, the result; values padded, transposed, and then in one byte each.

    The copy of the keys without their mean is smaller than the last two, and gone by then.
    """
    queries, keys = _padded(size.queries), _padded(size.keys)
    rounded = (queries + keys) * (size.head_dim + 1)
    values = keys * size.head_dim * (VALUE_BYTES + 1)
    if keys != size.keys:
        values += keys * size.head_dim * VALUE_BYTES
    mean_and_scale = (VALUE_BYTES + SUM_BYTES) * size.head_dim
    return rounded + values + mean_and_scale + VALUE_BYTES * size.head_dim * size.queries


def _bytes_of_fp4(size: AttentionSize, means: int) -> int:
    """The most of three moments: the mean taken off the queries, scores of the means widened, everything rounded."""
    queries, keys = _padded(size.queries), _padded(size.keys)
    token, scores = VALUE_BYTES * size.head_dim, means * keys
    padded = token * (queries + 2 * keys)
    copied = token * (size.keys + means) + padded
    rounded = size.head_dim * FP4_SIXTEENTHS * (queries + 2 * keys) // 16
    result = (token + SUM_BYTES) * queries
    if queries != size.queries:
        result += token * size.queries
    return max(
        copied + token * queries,
        copied + (VALUE_BYTES + SUM_BYTES) * scores,
        padded + SUM_BYTES * scores + rounded + result,
    )


def _padded(tokens: int) -> int:
    return -(-tokens // TILE) * TILE
