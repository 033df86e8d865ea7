"""The row schedule, held against its definition: which rows a window needs, and that every row comes once."""

from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.decode.rows import LayerRows, Range, RowOp, layer_rows, strip_ranges, strip_schedule

FEW = 3  # layers of one kind that change the number of rows
OPS = st.lists(st.sampled_from(RowOp), min_size=1, max_size=12).filter(
    lambda ops: ops.count(RowOp.DOUBLE) <= FEW and ops.count(RowOp.HALVE) <= FEW
)
SCALE = {RowOp.CONVOLVE: 1, RowOp.DOUBLE: 2, RowOp.HALVE: 0.5}  # output rows for an input row


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[RowOp], int, list[Range]]:
    """Layers, rows of the first input, and strips that are cut at arbitrary output rows."""
    ops = draw(OPS)
    height = draw(st.integers(1, 12)) * 2 ** ops.count(RowOp.HALVE)
    out_height = reduce(lambda rows, op: int(rows * SCALE[op]), ops, height)
    inner = draw(st.sets(st.integers(1, out_height - 1))) if out_height > 1 else set()
    return ops, height, list(pairwise((0, *sorted(inner), out_height)))


@given(cuts())
def test_every_row_arrives_and_leaves_once(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    schedule = strip_schedule(ops, height, strips)
    for layer in range(len(ops)):
        at = [rows[layer] for rows in schedule]
        assert at[0].in_start == at[0].out_start == 0
        assert at[-1].out_stop == at[-1].out_height
        assert at[-1].keep == 0
        assert all(a.in_stop == b.in_start and a.out_stop == b.out_start for a, b in pairwise(at))
        assert at[-1].in_stop == at[-1].out_height / SCALE[ops[layer]]
    for rows in schedule:
        assert all(a.out_start == b.in_start and a.out_stop == b.in_stop for a, b in pairwise(rows))


def window(at: LayerRows, y: int) -> set[int]:
    """Input rows of the picture that the output row `y` is made of."""
    match at.op:
        case RowOp.CONVOLVE:
            return {r for r in (y - 1, y, y + 1) if 0 <= r < at.out_height}
        case RowOp.DOUBLE:
            return {r // 2 for r in (y - 1, y, y + 1) if 0 <= r < at.out_height}
        case RowOp.HALVE:
            return {r for r in (2 * y, 2 * y + 1, 2 * y + 2) if r < 2 * at.out_height}


@given(cuts())
def test_a_window_finds_its_rows_among_kept_and_new_ones(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    for rows in strip_schedule(ops, height, strips):
        for at in (at for at in rows if at.out):
            wanted = {row for y in range(at.out_start, at.out_stop) for row in window(at, y)}
            assert wanted == set(range(at.kept_start, at.in_stop)), at
            if at.op is RowOp.HALVE:
                assert at.buffer_rows == 2 * at.out + 1
            else:
                assert at.whole or at.buffer_rows == at.out + 2


@given(cuts())
def test_the_next_strip_finds_exactly_what_was_kept(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    for before, after in pairwise(strip_schedule(ops, height, strips)):
        for a, b in zip(before, after, strict=True):
            if a.out_stop == a.out_height:
                assert a.keep == b.out == b.new == 0
            else:
                assert (a.next_start, a.in_stop) == (b.kept_start, b.in_start)


@given(cuts())
def test_what_a_layer_has_seen_depends_on_the_finished_rows_alone(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    fine = strip_schedule(ops, height, strip_ranges(strips[-1][1], 1))
    for rows, (_, end) in zip(strip_schedule(ops, height, strips), strips, strict=True):
        assert [at.in_stop for at in rows] == [at.in_stop for at in fine[end - 1]]


@pytest.mark.parametrize(
    ("height", "rows", "strips"),
    [(24, 8, [(0, 8), (8, 16), (16, 24)]), (20, 16, [(0, 16), (16, 20)]), (8, 9, [(0, 8)]), (1, 1, [(0, 1)])],
)
def test_strip_ranges(height: int, rows: int, strips: list[Range]) -> None:
    assert strip_ranges(height, rows) == strips


def test_a_picture_that_is_not_cut_has_no_zero_rows_of_its_own() -> None:
    whole = LayerRows.of_whole(7)
    assert (whole.top_zeros, whole.bottom_zeros, whole.kept, whole.keep, whole.new, whole.out) == (0, 0, 0, 0, 7, 7)


def test_halving_puts_zeros_below_the_last_row_alone() -> None:
    whole, upper, lower = (layer_rows(RowOp.HALVE, 8, cut) for cut in ((0, 4), (0, 1), (1, 4)))
    assert [(at.top_zeros, at.bottom_zeros) for at in (whole, upper, lower)] == [(0, 1), (0, 0), (0, 1)]
    assert (upper.new, upper.keep, lower.kept, lower.new) == (3, 1, 1, 5)
