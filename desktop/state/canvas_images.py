"""The canvas as images: QImages that share its memory, opened and dropped with each job; lives on the UI thread."""

import numpy as np
from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QImage

from engine.canvas import Canvas, DirtyRows


class CanvasImages(QObject):
    """One QImage a frame over the canvas's own bytes. `refresh` is called at frame rate and reads only its notes."""

    opened = Signal(int)  # frames; comes with the first picture of a job
    closed = Signal()
    changed = Signal(object)  # list[DirtyRows]; empty when only the preview changed

    def __init__(self, canvas: Canvas, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._canvas = canvas
        self._generation = canvas.generation
        self.frames: list[QImage] = []
        self.previews: list[QImage] = []
        self._has_picture = False

    @property
    def is_empty(self) -> bool:
        """Whether there is no picture yet, decoded or previewed."""
        return not self._has_picture

    def rows_done(self, frame: int) -> int:
        """Decoded rows of `frame`, from the top."""
        return int(self._canvas.rows_done[frame])

    def preview_of(self, frame: int) -> QImage:
        """The latent preview that belongs to `frame`: the first latent frame is one picture, the others share."""
        last_frame, last_preview = len(self.frames) - 1, len(self.previews) - 1
        return self.previews[-(-frame * last_preview // last_frame) if last_frame else 0]

    def refresh(self) -> None:
        """Look whether a job opened the canvas, and take its notes."""
        # The generation is written last, so that the arrays are at least as new as the number read here.
        if self._canvas.generation != self._generation:
            self._open()
        dirty, preview = self._canvas.take_dirty()
        if not self.frames or not (dirty or preview):
            return
        if not self._has_picture:
            self._has_picture = True
            self.opened.emit(len(self.frames))
        self.changed.emit(dirty)

    def close(self) -> None:
        """Drop the images and with them the hold on the frame store of a job that is over."""
        self.frames, self.previews, self._has_picture = [], [], False
        self.closed.emit()

    def _open(self) -> None:
        self._generation = self._canvas.generation
        self._has_picture = False
        self.frames = [_image(pixels) for pixels in self._canvas.pixels]
        self.previews = [_image(pixels) for pixels in self._canvas.preview]


def dirty_span(dirty: list[DirtyRows], frame: int) -> tuple[int, int] | None:
    """First and last row that changed in `frame`, or None."""
    touched = [rows for rows in dirty if rows.frame_start <= frame < rows.frame_stop]
    if not touched:
        return None
    return min(rows.row_start for rows in touched), max(rows.row_stop for rows in touched)


def _image(pixels: np.ndarray) -> QImage:
    """A QImage over `pixels` [H, W, 4] without a copy; it keeps the memory alive."""
    height, width, _ = pixels.shape
    return QImage(pixels.data, width, height, pixels.strides[0], QImage.Format.Format_RGB32)
