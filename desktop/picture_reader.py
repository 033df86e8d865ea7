"""Reads pictures and clips for the window, fitted as the engine fits them; lives on a thread of its own."""

from dataclasses import dataclass

import numpy as np
from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QImage

from desktop.state.start import EXTEND
from desktop.state.thumbnails import Reading, Thumbnail, Wanted
from engine.cancel import Cancelled
from engine.errors import EngineError, ErrorCode
from engine.pictures.clips import frames_of, open_clip
from engine.pictures.fit import fitted_picture
from engine.pictures.read import read_picture

LARGEST = 512  # pixels of the longer side of what is handed out


@dataclass(frozen=True, slots=True)
class _Read:
    """A picture as it was read, kept for the next size it is fitted to. stamp: when the file was changed last."""

    wanted: Wanted
    stamp: int
    picture: np.ndarray
    frames: int


class PictureReader(QObject):
    """Answers one request after the other. Of requests that nobody waits for any more nothing is said."""

    answered = Signal(object, object)  # Reading, Thumbnail | EngineError

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[str, _Read] = {}

    @Slot(object)
    def read(self, reading: Reading) -> None:
        """Read and fit one file."""
        try:
            self.answered.emit(reading, self._thumbnail(reading))
        except Cancelled:
            return
        except EngineError as error:
            self.answered.emit(reading, error)
        except Exception as error:
            # Nobody above could handle it, and a field that waits for ever tells nobody.
            reason = f"{type(error).__name__}: {error}"
            file = str(reading.wanted.file)
            self.answered.emit(reading, EngineError(ErrorCode.PICTURE_INVALID, file=file, reason=reason))

    def _thumbnail(self, reading: Reading) -> Thumbnail:
        reading.cancel.raise_if_set()
        read = self._read(reading)
        height, width = read.picture.shape[:2]
        return Thumbnail(_small(fitted_picture(read.picture, reading.wanted.target)), (width, height), read.frames)

    def _read(self, reading: Reading) -> _Read:
        """The file's picture, read anew only when it is another or has changed."""
        wanted = reading.wanted
        stamp = wanted.file.stat().st_mtime_ns if wanted.file.exists() else 0
        kept = self._kept.get(wanted.slot)
        if kept is not None and (kept.wanted.file, kept.wanted.fps, kept.stamp) == (wanted.file, wanted.fps, stamp):
            return kept
        self._kept.pop(wanted.slot, None)
        picture, frames = _frame_of(reading) if wanted.is_clip else (read_picture(wanted.file), 1)
        self._kept[wanted.slot] = _Read(wanted, stamp, picture, frames)
        return self._kept[wanted.slot]


def _frame_of(reading: Reading) -> tuple[np.ndarray, int]:
    """The frame of a clip that stands for it, the last of one that is gone on with, and how many there are."""
    wanted, on_wait = reading.wanted, reading.cancel.raise_if_set
    clip = open_clip(wanted.file, wanted.fps, on_wait)
    at = clip.frames - 1 if wanted.slot == EXTEND else 0
    with frames_of(clip, on_wait, at, at + 1) as frames:
        return next(frames), clip.frames


def _small(picture: np.ndarray) -> QImage:
    height, width = picture.shape[:2]
    shared = QImage(picture.data, width, height, width * 3, QImage.Format.Format_RGB888)
    if max(width, height) <= LARGEST:
        return shared.copy()
    return shared.scaled(
        LARGEST, LARGEST, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    )
