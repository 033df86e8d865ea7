"""The encoder's row schedule, held against its definition: rows of windows, and that every row comes once."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.decode.rows import LayerRows, Range, RowOp, strip_ranges
from engine.encode.schedule import input_schedule

DOWN = (RowOp.CONVOLVE, RowOp.HALVE)
OPS = st.lists(st.sampled_from(DOWN), min_size=1, max_size=12).filter(lambda ops: ops.count(RowOp.HALVE) <= 4)


@st.composite
def cuts(draw: st.DrawFn) -> tuple[list[RowOp], int, list[Range]]:
    """Layers, rows of the first input, and strips that are cut at arbitrary rows of it."""
    ops = draw(OPS)
    height = draw(st.integers(1, 6)) * 2 ** ops.count(RowOp.HALVE)
    inner = draw(st.sets(st.integers(1, height - 1))) if height > 1 else set()
    return ops, height, list(pairwise((0, *sorted(inner), height)))


def last_row_of_window(at: LayerRows, y: int) -> int:
    in_height = at.out_height * (2 if at.op is RowOp.HALVE else 1)
    return min(in_height - 1, 2 * y + 2 if at.op is RowOp.HALVE else y + 1)


@given(cuts())
def test_every_row_arrives_and_leaves_once(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    schedule = input_schedule(ops, height, strips)
    assert [(rows[0].in_start, rows[0].in_stop) for rows in schedule] == strips
    for layer in range(len(ops)):
        at = [rows[layer] for rows in schedule]
        assert at[0].in_start == at[0].out_start == at[-1].keep == 0
        assert at[-1].out_stop == at[-1].out_height
        assert at[-1].new
        assert all(a.in_stop == b.in_start and a.out_stop == b.out_start for a, b in pairwise(at))
    for rows in schedule:
        assert all(a.out_start == b.in_start and a.out_stop == b.in_stop for a, b in pairwise(rows))


@given(cuts())
def test_a_layer_makes_all_rows_whose_windows_are_there_and_no_others(
    cut: tuple[list[RowOp], int, list[Range]],
) -> None:
    ops, height, strips = cut
    for at in (at for rows in input_schedule(ops, height, strips) for at in rows):
        ready = [y for y in range(at.out_height) if last_row_of_window(at, y) < at.in_stop]
        assert at.out_stop == len(ready)
        if at.out:
            assert at.kept_start == (2 * at.out_start if at.op is RowOp.HALVE else max(0, at.out_start - 1))


@given(cuts())
def test_the_next_strip_finds_exactly_what_was_kept(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    for before, after in pairwise(input_schedule(ops, height, strips)):
        for a, b in zip(before, after, strict=True):
            assert (a.next_start, a.in_stop) == (b.kept_start, b.in_start)


@given(cuts())
def test_a_convolutions_buffer_holds_what_waits_what_comes_and_zeros(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    for at in (at for rows in input_schedule(ops, height, strips) for at in rows):
        if at.new and at.op is RowOp.CONVOLVE:
            assert at.buffer_rows == at.top_zeros + at.kept + at.new + at.bottom_zeros


@given(cuts())
def test_what_a_layer_has_made_depends_on_the_rows_that_came_alone(cut: tuple[list[RowOp], int, list[Range]]) -> None:
    ops, height, strips = cut
    fine = input_schedule(ops, height, strip_ranges(height, 1))
    for rows, (_, end) in zip(input_schedule(ops, height, strips), strips, strict=True):
        assert [at.out_stop for at in rows] == [at.out_stop for at in fine[end - 1]]


def test_no_strip_brings_much_more_rows_to_any_layer_than_its_own() -> None:
    ops = [RowOp.CONVOLVE]
    for stage in range(4):
        ops += [RowOp.CONVOLVE] * 4 + [RowOp.HALVE] * (stage < 3)
    for rows in input_schedule(ops, 720, strip_ranges(720, 8)):
        assert max(at.new for at in rows[:5]) <= 8 + 5
        assert max(at.new for at in rows[-4:]) <= 9 + 1
