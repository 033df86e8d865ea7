"""Keeps a stage to its budget while it runs: on a card, torch's allocator gives out no more. Engine thread."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def held_to(device: torch.device, budget_bytes: int | None) -> Iterator[None]:
    """Run the block with at most `budget_bytes` of live tensors and caches of torch on `device`; None is no limit.

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
