"""The measured peak is the true one, also when it is over before the next sample."""

import gc

import numpy as np
import pytest
import torch

from engine.memory.budget import PeakMemory, usable_cores

CPU = torch.device("cpu")


def resident_block(mib: int) -> np.ndarray:
    return np.ones(mib * 2**20, np.uint8)  # ones: untouched zero pages are not resident


def test_a_block_freed_at_once_counts() -> None:
    with PeakMemory(CPU) as idle:
        pass
    with PeakMemory(CPU) as busy:
        block = resident_block(200)
        del block
        gc.collect()
    assert busy.bytes - idle.bytes == pytest.approx(200 * 2**20, rel=0.1)


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


def test_at_least_one_core() -> None:
    assert 1 <= usable_cores() <= torch.get_num_threads() * 64
