"""Row arithmetic of streaming: which rows of every layer exist after each strip. Pure, any thread.

The decoder's strips are cut at the output and walked *back* through the layers, because cutting at the input would
make the last strip flush the lag of every layer at once. How many rows a layer has seen depends only on how many output
rows are done, never on how they were cut: a decode can go on from any finished row with strips of another size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from itertools import accumulate

Range = tuple[int, int]  # half-open range of rows


class RowOp(Enum):
    """What one layer does with rows."""

    CONVOLVE = "convolve"  # a window of three rows, zeros above the first and below the last
    DOUBLE = "double"  # every row twice, then a window of three rows
    HALVE = "halve"  # a window of three rows at every second row, which is its first; zeros below the last

    def out_height(self, in_height: int) -> int:
        """Rows that a layer makes of `in_height`, which are an even number where it halves them."""
        match self:
            case RowOp.CONVOLVE:
                return in_height
            case RowOp.DOUBLE:
                return 2 * in_height
            case RowOp.HALVE:
                return in_height // 2


@dataclass(frozen=True, slots=True)
class LayerRows:
    """The rows of one layer in one strip, as absolute half-open ranges over its input and output.

    Input rows [kept_start, in_start) wait from earlier strips, [in_start, in_stop) are new, and
    [next_start, in_stop) must wait for the next strip. Rows of a doubling layer's input are those before doubling.
    """

    op: RowOp
    kept_start: int
    in_start: int
    in_stop: int
    next_start: int
    out_start: int
    out_stop: int
    out_height: int

    @property
    def kept(self) -> int:
        """Input rows that earlier strips left."""
        return self.in_start - self.kept_start

    @property
    def new(self) -> int:
        """Input rows that this strip brings."""
        return self.in_stop - self.in_start

    @property
    def idle(self) -> bool:
        """Whether nothing comes in and nothing goes out."""
        return not (self.new or self.out)

    @property
    def keep(self) -> int:
        """Input rows that the next strip needs again."""
        return self.in_stop - self.next_start

    @property
    def out(self) -> int:
        """Output rows of this strip; 0 (and none new) where the layers below need no more than they have."""
        return self.out_stop - self.out_start

    @property
    def whole(self) -> bool:
        """Whether the strip is the whole picture, so that the convolution's own padding serves both edges."""
        return self.out == self.out_height

    @property
    def top_zeros(self) -> int:
        """Zero rows to put above the window: one at the true top of a picture that is cut, unless it is halved."""
        return int(self.out_start == 0 and not self.whole and self.op is not RowOp.HALVE)

    @property
    def bottom_zeros(self) -> int:
        """Zero rows to put below the window: one at the true bottom of a picture that is cut, or halved.

        The padding of a convolution that halves is on one side only, where no convolution has a setting for it.
        """
        return int(self.out_stop == self.out_height and (not self.whole or self.op is RowOp.HALVE))

    @property
    def window_start(self) -> int:
        """First row that the three-row window reads, counted after doubling and before halving."""
        return 2 * self.out_start if self.op is RowOp.HALVE else max(0, self.out_start - 1)

    @property
    def window_stop(self) -> int:
        """One past the last row that the three-row window reads, counted after doubling and before halving."""
        if self.op is RowOp.HALVE:
            return min(2 * self.out_height, 2 * self.out_stop + 1)
        return min(self.out_height, self.out_stop + 1)

    @property
    def buffer_rows(self) -> int:
        """Rows of the convolution's input, zero rows included."""
        return self.top_zeros + self.window_stop - self.window_start + self.bottom_zeros

    @classmethod
    def of_whole(cls, height: int) -> "LayerRows":
        """A convolution over a picture that is not cut."""
        return layer_rows(RowOp.CONVOLVE, height, (0, height))


def strip_ranges(height: int, strip_rows: int) -> list[Range]:
    """Output rows of strips of `strip_rows` rows in a picture of `height` rows; the last may be shorter."""
    return [(start, min(start + strip_rows, height)) for start in range(0, height, strip_rows)]


def rows_needed(op: RowOp, out_stop: int, in_height: int) -> int:
    """Input rows a layer must have seen before its first `out_stop` output rows exist."""
    if out_stop == 0:
        return 0
    reach = 2 * out_stop + 1 if op is RowOp.HALVE else out_stop + 1
    return min(in_height, (reach + 1) // 2 if op is RowOp.DOUBLE else reach)


def first_row_kept(op: RowOp, out_stop: int) -> int:
    """First input row that is read again once `out_stop` output rows exist."""
    if op is RowOp.HALVE:
        return 2 * out_stop
    reach = max(0, out_stop - 1)
    return reach if op is RowOp.CONVOLVE else reach // 2


def layer_rows(op: RowOp, in_height: int, out_range: Range) -> LayerRows:
    """The rows of a layer in the strip that emits its output rows `out_range`."""
    out_start, out_stop = out_range
    out_height = op.out_height(in_height)
    in_start, in_stop = (rows_needed(op, y, in_height) for y in out_range)
    kept_start = min(first_row_kept(op, out_start), in_start)
    next_start = in_stop if out_stop == out_height else first_row_kept(op, out_stop)
    return LayerRows(op, kept_start, in_start, in_stop, next_start, out_start, out_stop, out_height)


def strip_schedule(ops: Sequence[RowOp], in_height: int, strips: Sequence[Range]) -> tuple[tuple[LayerRows, ...], ...]:
    """Rows of every layer in every strip, [strip][layer]; `in_height` is the height of the first layer's input."""
    return tuple(rows_of_strip(tuple(ops), in_height, strip) for strip in strips)


@lru_cache(maxsize=4096)
def rows_of_strip(ops: tuple[RowOp, ...], in_height: int, out_range: Range) -> tuple[LayerRows, ...]:
    """Rows of every layer in the strip that emits the output rows `out_range`, found by walking back from them.

    The first strip carries the lag of all layers, and the last ones find some layers already done.
    """
    heights = accumulate(ops, lambda height, op: op.out_height(height), initial=in_height)
    rows: list[LayerRows] = []
    for op, height in reversed(list(zip(ops, heights, strict=False))):
        rows.append(layer_rows(op, height, out_range))
        out_range = (rows[-1].in_start, rows[-1].in_stop)
    return tuple(reversed(rows))
