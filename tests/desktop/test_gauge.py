"""The gauge in the real window: thread, pynvml, stand-in driver, widgets."""

import os
from dataclasses import dataclass

import psutil
import pytest

from desktop.state.memory import MemorySample, MemoryState
from desktop.views.gauge_bar import segments
from desktop.views.history_curve import round_ceiling
from engine.memory.vram import VramReason
from tests.desktop.conftest import Desk, Desks
from tests.fake_nvml.driver import GIB, FakeDriver, card

FIRST, SECOND = "00000000:01:00.0", "00000000:41:00.0"


@dataclass
class Reading:
    allocated_bytes: int
    reserved_bytes: int


class Allocator:
    """What torch's allocator would say."""

    pci_id = SECOND

    def read(self) -> Reading:
        return Reading(2 * GIB, 3 * GIB)


def wait_for_total(desk: Desk, total: int) -> MemorySample:
    memory = desk.app.memory
    desk.qtbot.waitUntil(lambda: memory.sample is not None and memory.sample.total_bytes == total)
    assert memory.sample is not None
    return memory.sample


def test_no_driver_is_said_and_the_systems_memory_shown(desks: Desks, fake_driver: FakeDriver) -> None:
    fake_driver.write("init_error 12")
    desk = desks.open()
    sample = wait_for_total(desk, psutil.virtual_memory().total)
    assert sample.reason is VramReason.NO_DRIVER
    assert sample.ours_bytes == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)
    gauge = desk.app.window.gauge
    assert "No NVIDIA card" in gauge._source.text()
    assert gauge._title.text() == "System memory"
    desks.close_all()


def test_card_is_shown_and_an_unknown_share_is_not_zero(desks: Desks, fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, total=24 * GIB, used=5 * GIB), f"process 0 {os.getpid()} -1")
    desk = desks.open()
    wait_for_total(desk, 24 * GIB)
    gauge = desk.app.window.gauge
    assert (gauge._title.text(), gauge._source.text()) == ("Video memory", "Fake RTX 0")
    assert gauge._ours.figure == "n/a"
    assert (gauge._used.text(), gauge._total.text()) == ("5.0 GB", "of 24.0 GB")
    desks.close_all()


def test_engines_card_is_followed_and_its_allocator_stacked(desks: Desks, fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, total=8 * GIB), card(SECOND, total=48 * GIB, used=10 * GIB))
    desk = desks.open(allocator=Allocator())
    sample = wait_for_total(desk, 48 * GIB)
    desk.qtbot.waitUntil(lambda: desk.app.window.gauge._reserved.isVisible())
    stack = [(segment.name, segment.size_bytes // GIB) for segment in segments(sample)]
    assert stack == [("others", 7), ("allocated", 2), ("reserved", 1)]
    assert sum(segment.size_bytes for segment in segments(sample)) == sample.used_bytes
    desks.close_all()


def test_a_lost_card_gives_way_to_the_systems_memory(desks: Desks, fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, total=24 * GIB))
    desk = desks.open()
    wait_for_total(desk, 24 * GIB)
    fake_driver.write(card(FIRST), "memory_error 15")
    sample = wait_for_total(desk, psutil.virtual_memory().total)
    assert sample.reason is VramReason.CARD_LOST
    assert len(desk.app.memory.history) < 8, "system memory is not drawn into the card's curve"
    desks.close_all()


def test_peak_counts_from_the_jobs_start_and_takes_the_engines_own() -> None:
    state = MemoryState()
    state.add(MemorySample(None, VramReason.NO_CARD, 100, 60, 30))
    state.start_job()
    state.add(MemorySample(None, VramReason.NO_CARD, 100, 60, 20))
    assert (state.base_bytes, state.peak_bytes) == (30, 20)
    state.raise_peak(25)
    assert state.peak_bytes == 25


@pytest.mark.parametrize(
    ("size", "end"),
    [(0, 0), (101 << 20, 150 << 20), (150 << 20, 150 << 20), (999 << 20, 1000 << 20), (1 << 30, 1 << 30)],
)
def test_scale_ends_read_well(size: int, end: int) -> None:
    assert round_ceiling(size) == end
