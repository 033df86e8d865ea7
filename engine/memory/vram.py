"""Video memory of one NVIDIA card as the driver reports it (NVML); torch-free, lives on the gauge thread.

NVML numbers cards by PCI bus, CUDA numbers them by speed and honours CUDA_VISIBLE_DEVICES, so an index of one
means nothing to the other. The card is therefore found by PCI id as soon as the engine knows which one it uses, and
by CUDA_VISIBLE_DEVICES before that. Every NVML failure becomes `VramUnavailable` with its reason.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import pynvml


class VramReason(StrEnum):
    """Why there is nothing to read from a card."""

    NO_DRIVER = "no_driver"
    DRIVER_MISMATCH = "driver_mismatch"
    NO_PERMISSION = "no_permission"
    NO_CARD = "no_card"
    NOT_USED = "not_used"  # a card is there, but torch was built without CUDA or is kept from the card
    CARD_LOST = "card_lost"
    DRIVER_ERROR = "driver_error"


class VramUnavailable(Exception):
    """The card's memory cannot be read; `reason` says why, `technical` holds the driver's words."""

    def __init__(self, reason: VramReason, technical: str) -> None:
        super().__init__(reason, technical)
        self.reason = reason
        self.technical = technical


@dataclass(frozen=True, slots=True)
class CardMemory:
    """One reading in bytes. `reserved_bytes` is what driver and firmware keep, not part of `used_bytes`.

    `process_bytes` is this process's share; None where the driver does not tell (always so under WDDM).
    """

    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    process_bytes: int | None


# pynvml's NVMLError is unhashable and cannot be compared, so the number is looked up instead.
_REASONS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: VramReason.NO_DRIVER,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: VramReason.NO_DRIVER,
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: VramReason.DRIVER_MISMATCH,
    pynvml.NVML_ERROR_NO_PERMISSION: VramReason.NO_PERMISSION,
    pynvml.NVML_ERROR_NOT_FOUND: VramReason.NO_CARD,
    pynvml.NVML_ERROR_GPU_IS_LOST: VramReason.CARD_LOST,
}


def _unavailable(error: pynvml.NVMLError) -> VramUnavailable:
    return VramUnavailable(_REASONS.get(error.value, VramReason.DRIVER_ERROR), str(error))


class VramProbe:
    """An open NVML session on one card; use and close it on one thread."""

    def __init__(self, handle: object, name: str, pci_id: str) -> None:  # an opaque pointer
        self._handle = handle
        self.name = name
        self.pci_id = pci_id

    @classmethod
    def open(cls, pci_id: str | None = None) -> Self:
        """Connect to the card with this PCI id, else to the first one CUDA may use. Raises VramUnavailable."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise _unavailable(error) from error
        try:
            handle = _card_at(pci_id) if pci_id else _first_visible_card(os.environ.get("CUDA_VISIBLE_DEVICES"))
            return cls(handle, _text(pynvml.nvmlDeviceGetName(handle)), _pci_id_of(handle))
        except pynvml.NVMLError as error:
            _shutdown()
            raise _unavailable(error) from error
        except VramUnavailable:
            _shutdown()
            raise

    def read(self) -> CardMemory:
        """Memory of the card now. Raises VramUnavailable."""
        try:
            total, used, reserved = self._read_device()
            return CardMemory(total, used, reserved, self._read_process())
        except pynvml.NVMLError as error:
            raise _unavailable(error) from error

    def close(self) -> None:
        """End the session; the probe must not be used afterwards."""
        _shutdown()

    def _read_device(self) -> tuple[int, int, int]:
        try:
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle, version=pynvml.nvmlMemory_v2)
        except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
            # Drivers before 510 know only the first struct, which counts the reserved bytes as used.
            memory = pynvml.nvmlDeviceGetMemoryInfo(self._handle)
            return int(memory.total), int(memory.used), 0
        return int(memory.total), int(memory.used), int(memory.reserved)

    def _read_process(self) -> int | None:
        """Bytes of this process on the card; None where unknown."""
        try:
            # The unversioned names raise something that is no NVMLError when an old driver lacks the symbol.
            processes = [
                *pynvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle),
                *pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3(self._handle),
            ]
        except pynvml.NVMLError:
            return None
        return _bytes_of_process(processes, os.getpid())


def _bytes_of_process(processes: Iterable[Any], pid: int) -> int | None:
    # A process that computes and draws is in both lists with the same figure. Inside a container the
    # driver names pids of the host, so that not finding ourselves does not mean that we use nothing.
    own = [process.usedGpuMemory for process in processes if process.pid == pid]
    known = [used for used in own if used is not None]
    return max(known) if known else None


def _first_visible_card(visible: str | None) -> object:
    """The card that CUDA would call device 0 as far as the environment tells. Raises VramUnavailable."""
    if visible is None:
        return _card_by_index(0)
    first = visible.split(",")[0].strip()
    if first.startswith("GPU-"):
        return _card_by_uuid_prefix(first)
    if not first.isdecimal():  # "", "-1", "NoDevFiles", a MIG slice: CUDA sees no whole card
        raise VramUnavailable(VramReason.NO_CARD, f"CUDA_VISIBLE_DEVICES={visible}")
    return _card_by_index(int(first))


def _card_by_index(index: int) -> object:
    count = pynvml.nvmlDeviceGetCount()
    if index >= count:
        raise VramUnavailable(VramReason.NO_CARD, f"card {index} of {count}")
    return pynvml.nvmlDeviceGetHandleByIndex(index)


def _card_by_uuid_prefix(prefix: str) -> object:
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        if _text(pynvml.nvmlDeviceGetUUID(handle)).startswith(prefix):
            return handle
    raise VramUnavailable(VramReason.NO_CARD, f"no card {prefix}")


def _card_at(pci_id: str) -> object:
    return pynvml.nvmlDeviceGetHandleByPciBusId(pci_id.encode())


def _pci_id_of(handle: object) -> str:
    return _text(pynvml.nvmlDeviceGetPciInfo(handle).busId)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _shutdown() -> None:
    try:
        pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return  # a lost driver cannot be shut down, and nothing is left to release
