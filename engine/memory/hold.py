"""Keeps a stage to its budget while it runs: on a card, torch's allocator gives out no more. Engine thread."""

import contextlib
from collections.abc import Iterator

import torch

# What a card's allocator has to reserve beside live tensors: workspaces of libraries, and what lies between blocks of
# memory that are handed out in pieces of 2 and 20 MiB.
WORKSPACE_BYTES = 64 << 20
FRAGMENTS_SHARE = 0.03


def overhead_bytes(tensor_bytes: int) -> int:
    """What has to be reserved beside `tensor_bytes` of live tensors at the most."""
    return WORKSPACE_BYTES + int(tensor_bytes * FRAGMENTS_SHARE)


def tensor_bytes_in(budget_bytes: int) -> int:
    """Live tensors that a budget of reserved memory has room for, with what comes beside them."""
    return max(0, int((budget_bytes - WORKSPACE_BYTES) / (1 + FRAGMENTS_SHARE)))


@contextlib.contextmanager
def held_to(device: torch.device, budget_bytes: int | None) -> Iterator[None]:
    """Run the block with at most `budget_bytes` reserved by torch on `device`; None is no limit.

    What would go beyond raises `torch.OutOfMemoryError`, and the stages go on in smaller pieces. A CPU has no such
    allocator: there the plan alone keeps the budget.
    """
    if device.type != "cuda" or budget_bytes is None:
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()  # what is cached counts, and is in blocks of the stage before
    torch.cuda.set_per_process_memory_fraction(min(1.0, budget_bytes / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
