"""What the streaming decoder keeps between its steps, and where. Lives on the engine's thread.

Every cache is an excerpt of a layer's input. The loop over strips and chunks has an inner axis, whose caches are
read back one step later (near: on the card), and an outer axis, whose caches wait for a whole inner loop (far: on
the card, or in host memory that the card can reach directly).
"""

import torch
from torch import Tensor

CacheKey = tuple[str, int]  # (layer and what of it, index along the other axis)


def host_tensor(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory outside the card for values of `device`, page-locked where the card copies faster from such pages."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


class Cache:
    """Excerpts by key; storing copies, so no excerpt holds the buffer it was taken from."""

    def __init__(self, *, on_host: bool) -> None:
        self._on_host = on_host
        self._entries: dict[CacheKey, Tensor] = {}

    def store(self, key: CacheKey, value: Tensor, *, last: bool = False) -> None:
        """Keep a copy of `value`, in the memory of the entry before it if that has the same shape.

        An excerpt that is empty, or the `last` along its axis, will never be asked for: the entry is dropped.
        """
        if last or not value.numel():
            self._entries.pop(key, None)
            return
        kept = self._entries.get(key)
        if kept is None or kept.shape != value.shape:
            self._entries.pop(key, None)
            del kept  # the old entry must be gone before the new one is made
            self._entries[key] = kept = self._room_for(value)
        kept.copy_(value, non_blocking=True)

    def fetch(self, key: CacheKey, into: Tensor) -> None:
        """Copy the entry into `into`, a view of the buffer that needs it; zeros before anything was stored."""
        kept = self._entries.get(key)
        if kept is None:
            into.zero_()
        else:
            into.copy_(kept, non_blocking=True)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def _room_for(self, value: Tensor) -> Tensor:
        if self._on_host:
            return host_tensor(tuple(value.shape), value.dtype, value.device)
        return torch.empty(value.shape, dtype=value.dtype, device=value.device)
