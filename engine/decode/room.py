"""Where the far caches' memory comes from: the card, host memory, or files. Lives on the engine's thread."""

import contextlib
import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from engine.decode.frames import reserve
from engine.output.durable import disk_errors

Shape = tuple[int, ...]
Room = Callable[[Shape, torch.dtype, torch.device], Tensor]  # uninitialised memory for values of that device


def room_on_card(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory of the device itself."""
    return torch.empty(shape, dtype=dtype, device=device)


def room_on_host(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Memory outside the card, page-locked where the card copies faster from such pages."""
    return torch.empty(shape, dtype=dtype, pin_memory=device.type == "cuda")


def room_in_memory(shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Plain memory outside the card: for what is copied so seldom that page-locking it would cost more."""
    return torch.empty(shape, dtype=dtype)


class RoomInFiles:
    """Memory mapped from files in `folder`, for caches that host memory cannot hold.

    Space on the disk is taken at once: a full disk fails here with OUTPUT_NOT_WRITABLE, and not as a fault in the
    middle of a copy. Where a mapped file may lose its name it does so at once, and is gone however the process ends;
    elsewhere (Windows) `close` removes what nobody maps any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self._left: list[Path] = []

    def __call__(self, shape: Shape, dtype: torch.dtype, device: torch.device) -> Tensor:
        path = self._folder / f"cache-{next(self._numbers):06}.bin"
        values = math.prod(shape)
        with disk_errors(path):
            with path.open("wb") as file:
                reserve(file.fileno(), values * dtype.itemsize)
            mapped = torch.from_file(str(path), shared=True, size=values, dtype=dtype).view(shape)
            try:
                path.unlink()
            except PermissionError:
                self._left.append(path)
        return mapped

    def close(self) -> None:
        """Remove files that were still mapped when they were made."""
        for path in self._left:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._left = []
