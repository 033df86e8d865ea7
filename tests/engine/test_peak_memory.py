"""The measured peak is the true one, also when it is over before the next sample."""

import gc
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.memory.budget import PeakMemory, usable_cores
from engine.memory.resident_peak import HighWaterMark, ResidentPeak, SampledPeak

CPU = torch.device("cpu")


def resident_block(mib: int) -> np.ndarray:
    return np.ones(mib * 2**20, np.uint8)  # ones: untouched zero pages are not resident


def extra_of_a_block(watch: Callable[[], ResidentPeak], mib: int, seconds: float) -> float:
    """MiB that a block held for `seconds` adds to the peak."""
    gc.collect()
    idle, busy = watch().stop(), watch()
    block = resident_block(mib)
    time.sleep(seconds)
    del block
    return (busy.stop() - idle) / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its mark")
def test_a_block_freed_at_once_counts() -> None:
    higher_before = resident_block(400)
    del higher_before
    assert extra_of_a_block(HighWaterMark, 200, seconds=0) == pytest.approx(200, rel=0.1)


def test_sampling_sees_what_lasts_longer_than_a_sample() -> None:
    higher_before = resident_block(400)
    del higher_before
    assert extra_of_a_block(SampledPeak, 200, seconds=0.3) == pytest.approx(200, rel=0.1)


def test_a_smaller_second_stage_has_its_own_peak() -> None:
    with PeakMemory(CPU) as large:
        block = resident_block(300)
        del block
    with PeakMemory(CPU) as small:
        block = resident_block(50)
        torch.randn(1000, 1000) @ torch.randn(1000, 1000)
        for _ in range(20):
            block += 1
    assert small.bytes < large.bytes - 200 * 2**20
    assert small.bytes > 50 * 2**20


def test_a_peak_is_measured_when_the_stage_fails() -> None:
    peak = PeakMemory(CPU)

    def fail() -> None:
        with peak:
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert peak.bytes > 0


@pytest.mark.parametrize(("physical", "allowed", "cores"), [(8, 16, 8), (8, 2, 2), (None, 4, 1)])
def test_threads_are_for_physical_cores_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, physical: int | None, allowed: int, cores: int
) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 2 * (physical or 1) if logical else physical)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(allowed)), raising=False)
    assert usable_cores() == cores
