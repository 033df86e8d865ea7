"""Where a job computes: the device, the number formats on it, and how many CPU threads."""

import os
from dataclasses import dataclass

import psutil
import torch

from engine.memory.budget import usable_cores


@dataclass(frozen=True, slots=True)
class Device:
    """One device with the dtype of each network on it.

    On a card everything is bfloat16 as the checkpoints are (the transformer keeps its time path in float32 by
    itself); the official VAE runs in float32, bfloat16 halves its memory. On a CPU everything is float32.
    """

    torch_device: torch.device
    network_dtype: torch.dtype
    vae_dtype: torch.dtype


def pick_device() -> Device:
    """The first visible CUDA card, or the CPU."""
    if torch.cuda.is_available():
        return Device(torch.device("cuda"), torch.bfloat16, torch.bfloat16)
    return Device(torch.device("cpu"), torch.float32, torch.float32)


def use_cpu_threads() -> None:
    """Give torch the physical cores, unless OMP_NUM_THREADS says otherwise."""
    if not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(usable_cores())


# On a CPU torch raises a plain RuntimeError when memory runs out. The convolution library does not even say why it
# could not make what it needs; in layers that the tests run on every CPU, memory is what is left as the reason.
CPU_OUT_OF_MEMORY = ("DefaultCPUAllocator", "could not create a primitive", "could not create a memory")


# A card's libraries say it in their own words where what they lack is a workspace or a handle. Of workspaces too large
# for a convolution torch passes over the error itself, until no engine is left that it could try.
CARD_OUT_OF_MEMORY = (
    "unable to find an engine to execute this computation",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a card or on a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    said = str(error) if isinstance(error, RuntimeError) else ""
    return any(words in said for words in (*CPU_OUT_OF_MEMORY, *CARD_OUT_OF_MEMORY))


def release_memory(device: torch.device) -> None:
    """Hand freed blocks back to the driver, so that the next stage finds them in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_bytes(device: Device) -> int:
    """Memory that nobody uses on `device` now: the card's, or the system's for a CPU."""
    if device.torch_device.type == "cuda":
        release_memory(device.torch_device)
        return torch.cuda.mem_get_info(device.torch_device)[0]
    return free_host_bytes()


def free_host_bytes() -> int:
    """Memory of the system that can be had without swapping."""
    return int(psutil.virtual_memory().available)
