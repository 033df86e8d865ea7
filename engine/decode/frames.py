"""Decoded frames as bytes: the conversion on the card and the file behind the shared canvas. Engine's thread."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import EngineError, ErrorCode

BLUE_GREEN_RED = (2, 1, 0)


def to_bgrx(rgb: Tensor) -> Tensor:
    """rgb [3, F, R, W] in -1..1 (clamped here) to bytes [F, R, W, 4] as QImage.Format_RGB32 wants them, same device.

    255 * (x + 1) / 2, rounded to the nearest byte. One colour at a time, so that little float32 is alive at once.
    """
    pixels = torch.empty((*rgb.shape[1:], 4), dtype=torch.uint8, device=rgb.device)
    for position, colour in enumerate(BLUE_GREEN_RED):
        values = rgb[colour].to(torch.float32, copy=True).clamp_(-1, 1).add_(1).mul_(127.5).round_()
        pixels[..., position].copy_(values)
    pixels[..., 3] = 255
    return pixels


class FrameStore:
    """The frames of the job's video, uint8 [T, H, W, 4], in a file that is mapped into memory.

    What is decoded may be larger, where the model does not make every size: what lies right or below is not kept.

    The operating system writes the frames out when memory is short, so a long clip needs no memory of its own, and
    what was decoded survives the process. `pixels` is made to be the canvas' own array. Space on the disk is taken
    when the store is opened: a full disk fails here, with OUTPUT_NOT_WRITABLE, and not in the middle of a write.
    """

    def __init__(self, path: Path, frames: int, height: int, width: int) -> None:
        self.path = path
        shape = (frames, height, width, 4)
        try:
            with self.path.open("wb") as file:
                reserve(file.fileno(), int(np.prod(shape)))
            self._map: np.memmap | None = np.memmap(self.path, np.uint8, "r+", shape=shape)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path=str(self.path), reason=str(error)) from error

    @property
    def pixels(self) -> np.ndarray:
        """All frames, zeros where nothing was decoded yet. Raises ValueError once the store is closed."""
        if self._map is None:
            raise ValueError("the frame store is closed")
        return self._map

    def within(self, row_start: int, rgb: Tensor) -> Tensor:
        """The part of rgb [3, F, R, W], rows from `row_start` on, that lies in the frames; it may have no rows."""
        _, height, width, _ = self.pixels.shape
        return rgb[:, :, : max(0, height - row_start), :width]

    def write(self, frame_start: int, row_start: int, bgrx: Tensor) -> None:
        """Put the rows bgrx [F, R, W, 4] (uint8, any device) in their place."""
        frames, rows = bgrx.shape[:2]
        place = self.pixels[frame_start : frame_start + frames, row_start : row_start + rows]
        torch.from_numpy(place).copy_(bgrx)

    def close(self) -> None:
        """Write everything to the disk and let go of the file; arrays taken from `pixels` stay valid."""
        if self._map is not None:
            self._map.flush()
            self._map = None

    def delete(self) -> None:
        """Close without writing and remove the file. Raises OSError (on Windows, while somebody holds `pixels`)."""
        self._map = None
        self.path.unlink(missing_ok=True)


def reserve(descriptor: int, size: int) -> None:
    """Make the file `size` bytes long, on the disk and not only on paper where the system can do that."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)
