"""The pixels that engine and window share: written on the engine's thread, shown on the UI thread.

Signals never carry pixels. The engine writes into the arrays below and notes what it touched; the window
draws from the same memory and takes the notes at frame rate. Only the notes are under the lock: a torn row
is visible for one frame at most and is drawn again.

Two layers: `preview` holds the latent preview of every latent frame, `pixels` the decoded frames. Bytes are
B, G, R, 255, which is what `QImage.Format_RGB32` paints fastest.
"""

import threading
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class DirtyRows:
    """Rows [row_start, row_stop) of frames [frame_start, frame_stop) have new decoded pixels."""

    frame_start: int
    frame_stop: int
    row_start: int
    row_stop: int


class Canvas:
    """Shared frames of the current job. `generation` grows whenever the arrays are new objects."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dirty: list[DirtyRows] = []
        self._preview_dirty = False
        self.generation = 0
        self.pixels: np.ndarray = np.zeros((0, 0, 0, 4), np.uint8)
        self.preview: np.ndarray = np.zeros((0, 0, 0, 4), np.uint8)
        self.rows_done: np.ndarray = np.zeros(0, np.int32)

    def open(self, pixels: np.ndarray, preview_frames: int, preview_height: int, preview_width: int) -> None:
        """Begin a job on `pixels` [T, H, W, 4] uint8 (may be a memory map); the preview starts black."""
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[-1] != 4:
            raise ValueError(f"pixels must be uint8 [T, H, W, 4], not {pixels.dtype} {pixels.shape}")
        with self._lock:
            self.pixels = pixels
            self.preview = np.zeros((preview_frames, preview_height, preview_width, 4), np.uint8)
            self.preview[..., 3] = 255
            self.rows_done = np.zeros(len(pixels), np.int32)
            self._dirty.clear()
            self._preview_dirty = False
            self.generation += 1

    def mark_dirty(self, rows: DirtyRows) -> None:
        """Note that decoded rows were written; rows arrive from the top, without gaps, in every frame."""
        with self._lock:
            self._dirty.append(rows)
            self.rows_done[rows.frame_start : rows.frame_stop] = rows.row_stop

    def mark_preview_dirty(self) -> None:
        """Note that the latent preview was rewritten."""
        with self._lock:
            self._preview_dirty = True

    def take_dirty(self) -> tuple[list[DirtyRows], bool]:
        """Everything noted since the last call: decoded rows, and whether the preview changed."""
        with self._lock:
            dirty, preview = self._dirty, self._preview_dirty
            self._dirty, self._preview_dirty = [], False
            return dirty, preview
