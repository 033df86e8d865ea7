"""The gauge in the real window: thread, pynvml, stand-in driver, widgets."""

import os
from dataclasses import dataclass

import psutil
import pytest
from pytestqt.qtbot import QtBot

from desktop.state.job import JobState
from desktop.state.memory import MemorySample, MemoryState
from desktop.state.prompt import PromptState
from desktop.theme import DARK
from desktop.views.gauge import Gauge
from desktop.views.gauge_bar import segments
from desktop.views.history_curve import round_ceiling
from desktop.vram_monitor import VramMonitor
from engine.commands import EMBEDDED_MODEL
from engine.memory.vram import VramReason
from tests.desktop.conftest import DEFAULTS, Desk, Desks
from tests.fake_nvml.driver import GIB, FakeDriver, card

FIRST, SECOND = "00000000:01:00.0", "00000000:41:00.0"


@dataclass
class Reading:
    allocated_bytes: int
    reserved_bytes: int
    peak_bytes: int


class Allocator:
    """What torch's allocator would say."""

    def __init__(self, pci_id: str = SECOND) -> None:
        self.pci_id = pci_id

    def read(self) -> Reading:
        return Reading(2 * GIB, 3 * GIB, 4 * GIB)


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
    assert gauge._source.text() == "No NVIDIA driver found."
    assert gauge._title.text() == "System memory"
    desks.close_all()


def test_card_is_shown_and_an_unknown_share_is_not_zero(qtbot: QtBot, fake_driver: FakeDriver) -> None:
    """Before the engine is loaded nobody but the driver could tell, and under WDDM it does not."""
    fake_driver.write(card(FIRST, total=24 * GIB, used=5 * GIB, reserved=GIB), f"process 0 {os.getpid()} -1")
    memory, monitor = MemoryState(), VramMonitor()
    gauge = Gauge(memory, JobState(), PromptState(EMBEDDED_MODEL, DEFAULTS), DARK)
    qtbot.addWidget(gauge)
    monitor.sampled.connect(memory.add)
    monitor.sample()
    monitor.stop()
    assert (gauge._title.text(), gauge._source.text()) == ("Video memory", "Fake RTX 0")
    assert gauge._ours.figure == "n/a"
    assert (gauge._used.text(), gauge._total.text()) == ("6.0 GB", "of 24.0 GB")
    assert gauge._curve._levels() == []


def test_a_card_that_torch_cannot_use_is_not_passed_off_as_ours(desks: Desks, fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, total=24 * GIB))
    desk = desks.open(allocator=None)
    desk.qtbot.waitUntil(lambda: desk.app.memory.sample is not None and desk.app.memory.sample.card is None)
    sample = wait_for_total(desk, psutil.virtual_memory().total)
    assert sample.reason is VramReason.NOT_USED
    desks.close_all()


@pytest.mark.parametrize(("process", "others", "reserve"), [(None, 7, 1), (int(3.5 * GIB), 6.5, 1.5)])
def test_engines_card_is_followed_and_its_allocator_stacked(
    desks: Desks, fake_driver: FakeDriver, process: int | None, others: float, reserve: float
) -> None:
    """The driver counts the CUDA context to our share, torch does not; what the bar stacks is all that is used."""
    ours = () if process is None else (f"process 1 {os.getpid()} {process}",)
    fake_driver.write(card(FIRST, total=8 * GIB), card(SECOND, 48 * GIB, 10 * GIB, reserved=0), *ours)
    desk = desks.open(allocator=Allocator())
    sample = wait_for_total(desk, 48 * GIB)
    desk.qtbot.waitUntil(lambda: desk.app.window.gauge._reserved.isVisible())
    stack = [(segment.name, segment.size_bytes / GIB) for segment in segments(sample)]
    assert stack == [("others", others), ("allocated", 2), ("reserved", reserve)]
    assert sum(segment.size_bytes for segment in segments(sample)) == sample.used_bytes
    desks.close_all()


def test_a_lost_card_gives_way_to_the_systems_memory(desks: Desks, fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, total=24 * GIB))
    desk = desks.open(allocator=Allocator(FIRST))
    wait_for_total(desk, 24 * GIB)
    fake_driver.write(card(FIRST), "memory_error 15")
    sample = wait_for_total(desk, psutil.virtual_memory().total)
    assert sample.reason is VramReason.CARD_LOST
    assert len(desk.app.memory.history) < 8, "system memory is not drawn into the card's curve"
    desks.close_all()


def on_cpu(ours_bytes: int) -> MemorySample:
    return MemorySample(None, VramReason.NO_CARD, 100, 60, ours_bytes)


def test_the_peak_is_that_of_the_job_alone_and_takes_the_engines_own() -> None:
    state = MemoryState()
    state.add(on_cpu(30))
    assert state.peak_bytes is None
    state.start_job()
    state.add(on_cpu(20))
    assert state.peak_bytes == 20
    state.raise_peak(25)
    assert state.peak_bytes == 25
    state.end_job()
    state.add(on_cpu(90))
    assert state.peak_bytes == 25


def test_the_allocators_maximum_is_seen_between_two_readings() -> None:
    state = MemoryState()
    state.start_job()
    state.add(MemorySample("card", None, 100, 60, 30, allocated_bytes=10, reserved_bytes=20, peak_bytes=18))
    assert state.peak_bytes == 18


@pytest.mark.parametrize(
    ("size", "end"),
    [(0, 0), (101 << 20, 150 << 20), (150 << 20, 150 << 20), (999 << 20, 1000 << 20), (1 << 30, 1 << 30)],
)
def test_scale_ends_read_well(size: int, end: int) -> None:
    assert round_ceiling(size) == end
