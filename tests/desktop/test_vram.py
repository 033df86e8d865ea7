"""The NVML probe through the real pynvml against a stand-in driver."""

import os

import pytest

from engine.memory.vram import CardMemory, VramProbe, VramReason, VramUnavailable
from tests.fake_nvml.driver import GIB, FakeDriver, card

FIRST, SECOND = "00000000:01:00.0", "00000000:41:00.0"


def read(pci_id: str | None = None) -> CardMemory:
    probe = VramProbe.open(pci_id)
    try:
        return probe.read()
    finally:
        probe.close()


def open_name(pci_id: str | None = None) -> str:
    probe = VramProbe.open(pci_id)
    probe.close()
    return probe.name


def reason_of_opening(pci_id: str | None = None) -> VramReason:
    with pytest.raises(VramUnavailable) as caught:
        VramProbe.open(pci_id)
    return caught.value.reason


def test_used_excludes_what_the_driver_reserves(fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, total=8 * GIB, used=3 * GIB, reserved=GIB // 2))
    assert read() == CardMemory(8 * GIB, 3 * GIB, GIB // 2, None)


def test_old_driver_without_second_struct(fake_driver: FakeDriver) -> None:
    fake_driver.write("memory_v2 0", card(FIRST, total=8 * GIB, used=3 * GIB, reserved=GIB // 2))
    assert read() == CardMemory(8 * GIB, 3 * GIB + GIB // 2, 0, None)


def test_readings_are_live(fake_driver: FakeDriver) -> None:
    probe = VramProbe.open()
    fake_driver.write(card(FIRST, used=5 * GIB))
    assert probe.read().used_bytes == 5 * GIB
    fake_driver.write(card(FIRST, used=7 * GIB))
    assert probe.read().used_bytes == 7 * GIB
    probe.close()


def test_own_process_is_told_apart(fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST), f"process 0 {os.getpid()} {GIB}", f"process 0 {os.getpid() + 1} {3 * GIB}")
    assert read().process_bytes == GIB


@pytest.mark.parametrize(
    "lines",
    [
        [f"process 0 {os.getpid()} -1"],  # WDDM: listed, figure withheld
        [f"process 0 {os.getpid() + 1} 1024"],  # container: pids of the host
        ["processes_error 3"],
        ["processes_error 13"],
    ],
)
def test_unknown_share_is_none_and_never_zero(fake_driver: FakeDriver, lines: list[str]) -> None:
    fake_driver.write(card(FIRST), *lines)
    assert read().process_bytes is None


def test_card_is_found_by_pci_id(fake_driver: FakeDriver) -> None:
    fake_driver.write(card(FIRST, used=1), card(SECOND, used=2))
    assert read(SECOND).used_bytes == 2
    assert reason_of_opening("00000000:99:00.0") is VramReason.NO_CARD


@pytest.mark.parametrize(
    ("visible", "name"), [("1", "Fake RTX 1"), ("1,0", "Fake RTX 1"), ("GPU-bb", "Fake RTX 1"), ("0", "Fake RTX 0")]
)
def test_visible_devices_choose_the_card(
    fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, visible: str, name: str
) -> None:
    fake_driver.write(card(FIRST, uuid="GPU-aa11"), card(SECOND, uuid="GPU-bb22"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert open_name() == name


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-zz", "MIG-1"])
def test_hidden_cards_are_not_shown(fake_driver: FakeDriver, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert reason_of_opening() is VramReason.NO_CARD


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (4, VramReason.NO_PERMISSION),
        (9, VramReason.NO_DRIVER),
        (12, VramReason.NO_DRIVER),
        (18, VramReason.DRIVER_MISMATCH),
        (999, VramReason.DRIVER_ERROR),
    ],
)
def test_every_failure_to_start_has_a_reason(fake_driver: FakeDriver, code: int, reason: VramReason) -> None:
    fake_driver.write(f"init_error {code}")
    assert reason_of_opening() is reason


@pytest.mark.parametrize(("code", "reason"), [(15, VramReason.CARD_LOST), (10, VramReason.DRIVER_ERROR)])
def test_card_lost_while_running(fake_driver: FakeDriver, code: int, reason: VramReason) -> None:
    probe = VramProbe.open()
    fake_driver.write(card(FIRST), f"memory_error {code}")
    with pytest.raises(VramUnavailable) as caught:
        probe.read()
    assert caught.value.reason is reason
    probe.close()


def test_no_card_in_the_machine(fake_driver: FakeDriver) -> None:
    fake_driver.write("memory_v2 1")
    assert reason_of_opening() is VramReason.NO_CARD
