"""Row schedule of the streaming encoder: strips of pixels, walked forward through the layers. Pure, any thread.

The decoder cuts its output and walks back; the encoder cuts its input and walks on. Both cut at the pixels, where a
row is dearest. Cut at the latents, the first strip would have to read the lag of every layer at once: 76 rows of
pixels for one row of latents of Wan 2.1. Cut at the pixels, the last strip flushes that lag instead, and of it only
five rows are as wide as the picture.

How many rows a layer has made depends only on how many rows of pixels came in, never on how they were cut.
"""

from collections.abc import Sequence
from functools import lru_cache

from engine.decode.rows import LayerRows, Range, RowOp, first_row_kept


def rows_made(op: RowOp, in_stop: int, in_height: int) -> int:
    """Output rows that a layer can make of its first `in_stop` input rows. `op` is CONVOLVE or HALVE."""
    if in_stop == in_height:
        return op.out_height(in_height)
    return max(0, in_stop - 1) // (2 if op is RowOp.HALVE else 1)


def fed_layer(op: RowOp, in_height: int, in_range: Range) -> LayerRows:
    """The rows of a layer in the strip that brings its input rows `in_range`, of which it makes all that it can.

    In the first strips a layer may take rows and make none, and then no later layer gets any.
    """
    in_start, in_stop = in_range
    out_start, out_stop = (rows_made(op, stop, in_height) for stop in in_range)
    kept_start = min(first_row_kept(op, out_start), in_start)
    next_start = in_stop if in_stop == in_height else first_row_kept(op, out_stop)
    return LayerRows(op, kept_start, in_start, in_stop, next_start, out_start, out_stop, op.out_height(in_height))


@lru_cache(maxsize=4096)
def rows_of_input(ops: tuple[RowOp, ...], in_height: int, in_range: Range) -> tuple[LayerRows, ...]:
    """Rows of every layer in the strip of the input rows `in_range`; `in_height` is that of the first layer's input."""
    rows: list[LayerRows] = []
    for op in ops:
        rows.append(fed_layer(op, in_height, in_range))
        in_height, in_range = rows[-1].out_height, (rows[-1].out_start, rows[-1].out_stop)
    return tuple(rows)


def input_schedule(ops: Sequence[RowOp], in_height: int, strips: Sequence[Range]) -> tuple[tuple[LayerRows, ...], ...]:
    """Rows of every layer in every strip, [strip][layer]."""
    return tuple(rows_of_input(tuple(ops), in_height, strip) for strip in strips)
