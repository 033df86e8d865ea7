"""What torch's own allocator holds on the card; readable from any thread, used by the gauge."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class AllocatorMemory:
    """Bytes in live tensors, bytes that torch keeps from the driver, and the most of the former so far."""

    allocated_bytes: int
    reserved_bytes: int
    peak_bytes: int


class AllocatorProbe:
    """Reads the allocator of one CUDA device. `pci_id` is in NVML's form, domain:bus:device.function."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        properties = torch.cuda.get_device_properties(device)
        # torch's own type stubs lack these three; torch/numa/binding.py reads them the same way.
        domain: int = properties.pci_domain_id  # type: ignore[attr-defined]
        bus: int = properties.pci_bus_id  # type: ignore[attr-defined]
        slot: int = properties.pci_device_id  # type: ignore[attr-defined]
        self.pci_id = f"{domain:08X}:{bus:02X}:{slot:02X}.0"

    def read(self) -> AllocatorMemory:
        """The figures now; never synchronises with the device."""
        return AllocatorMemory(
            torch.cuda.memory_allocated(self._device),
            torch.cuda.memory_reserved(self._device),
            torch.cuda.max_memory_allocated(self._device),
        )


def open_allocator() -> AllocatorProbe | None:
    """The allocator of the device that the engine computes on; None when it computes on the CPU."""
    return AllocatorProbe(torch.device("cuda", torch.cuda.current_device())) if torch.cuda.is_available() else None
