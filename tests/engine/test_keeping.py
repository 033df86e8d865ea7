"""When the state of sampling goes to the disk: seldom enough to cost nothing, and always before it would be lost."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cancel import Cancelled
from engine.errors import EngineError, ErrorCode
from engine.sampling.checkpoint import SamplingState
from engine.sampling.keeping import KEEP_SECONDS, Keeping, should_keep
from tests.engine.sampling_states import state_after

SHAPE = (1, 1, 1, 1, 1)


class Sampling:
    """A sampling whose steps and writes take so many seconds each, by a clock of its own."""

    def __init__(self, steps: int, step_seconds: float, write_seconds: float = 0.5) -> None:
        self.steps, self.step_seconds, self.write_seconds = steps, step_seconds, write_seconds
        self.now = 1000.0
        self.said: list[tuple[str, int]] = []
        self.fails: BaseException | None = None

    def write(self, state: SamplingState) -> None:
        if self.fails is not None:
            raise self.fails
        self.now += self.write_seconds
        self.said.append(("written", state.step))

    def run(self, stop_after: int | None = None, reason: BaseException | None = None) -> None:
        with Keeping(self.write, lambda step: self.said.append(("told", step)), lambda: self.now) as keeping:
            for step in range(1, self.steps + 1):
                self.now += self.step_seconds
                if reason is not None and stop_after == step - 1:
                    raise reason
                keeping.take(state_after(step, self.steps, shape=SHAPE))
            if reason is not None and stop_after == self.steps:
                raise reason

    @property
    def kept(self) -> list[int]:
        return [step for what, step in self.said if what == "written"]


def test_a_job_of_seconds_is_not_kept() -> None:
    sampling = Sampling(steps=20, step_seconds=0.9)
    sampling.run()
    assert sampling.said == []


def test_a_long_one_is_kept_after_every_step_and_told_once_it_is_on_disk() -> None:
    sampling = Sampling(steps=4, step_seconds=60)
    sampling.run()
    assert sampling.said == [("written", 1), ("told", 1), ("written", 2), ("told", 2), ("written", 3), ("told", 3)]


@given(st.floats(0.01, 300), st.floats(0, 30), st.integers(2, 200))
def test_writing_costs_a_fiftieth_at_most_and_little_is_lost(step: float, write: float, steps: int) -> None:
    sampling = Sampling(steps, step, write)
    sampling.run()
    kept = sampling.kept
    # One whose writing nobody has timed yet may come early.
    assert sum(write for _ in kept[:-1]) * 50 <= steps * step * (1 + 1e-9)
    unsafe = [after - before for before, after in zip([0, *kept], [*kept, steps], strict=True)]
    assert max(unsafe) * step <= max(KEEP_SECONDS, 50 * write) * (1 + 1e-9) + step
    assert steps not in kept


ENDS = [Cancelled(), RuntimeError("CUDA out of memory"), EngineError(ErrorCode.OUT_OF_MEMORY, stage="sample")]


@pytest.mark.parametrize("reason", ENDS, ids=lambda each: type(each).__name__)
def test_however_it_ends_the_last_finished_step_is_kept(reason: Exception) -> None:
    sampling = Sampling(steps=20, step_seconds=0.5)
    with pytest.raises(type(reason)):
        sampling.run(stop_after=7, reason=reason)
    assert sampling.said == [("written", 7), ("told", 7)]


@pytest.mark.parametrize("stop_after", [0, 3])
def test_what_is_on_disk_or_nothing_is_not_written_again(stop_after: int) -> None:
    sampling = Sampling(steps=4, step_seconds=60)
    with pytest.raises(Cancelled):
        sampling.run(stop_after=stop_after, reason=Cancelled())
    assert sampling.kept == [1, 2, 3][:stop_after]


def test_the_state_after_the_last_step_is_the_latents() -> None:
    sampling = Sampling(steps=3, step_seconds=1)
    with pytest.raises(Cancelled):
        sampling.run(stop_after=3, reason=Cancelled())
    assert sampling.said == []


def test_what_ends_the_process_at_once_waits_for_nothing() -> None:
    sampling = Sampling(steps=20, step_seconds=0.5)
    with pytest.raises(KeyboardInterrupt):
        sampling.run(stop_after=7, reason=KeyboardInterrupt())
    assert sampling.said == []


def test_a_disk_that_is_full_is_told_and_hides_no_other_reason() -> None:
    sampling = Sampling(steps=4, step_seconds=60)
    sampling.fails = EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path="/jobs", reason="No space left on device")
    with pytest.raises(EngineError, match="No space left"):
        sampling.run()
    short = Sampling(steps=20, step_seconds=0.5)
    short.fails = RuntimeError("the card is gone, and its tensors with it")
    with pytest.raises(Cancelled):
        short.run(stop_after=7, reason=Cancelled())
    assert sampling.said == short.said == []


def states() -> Iterator[tuple[int, int]]:
    return ((step, steps) for steps in range(1, 5) for step in range(steps + 1))


def test_only_states_between_two_steps_are_ever_due() -> None:
    due = [(step, steps) for step, steps in states() if should_keep(step, steps, 1e9)]
    assert due == [(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)]
