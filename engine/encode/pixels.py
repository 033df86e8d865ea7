"""Where the encoder gets its pixels from: any rows of the frames that it has come to. Lives on the engine's thread."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from engine.decode.rows import Range

# Rows [3, F, R, W] in -1..1 of a range of frames and a range of rows. The encoder takes all strips of a chunk of frames
# before it goes on to the next chunk, so frames before a chunk are never asked for again.
PixelSource = Callable[[Range, Range], Tensor]


def pixels_of(video: Tensor) -> PixelSource:
    """Rows of a `video` [3, T, H, W] that is in memory as a whole."""

    def rows_of_video(frames: Range, rows: Range) -> Tensor:
        return video[:, slice(*frames), slice(*rows)]

    return rows_of_video


class FramePixels:
    """Rows of frames that arrive one by one, [3, H, W] each; only the chunk at hand is in memory."""

    def __init__(self, frames: Iterator[Tensor]) -> None:
        self._frames = frames
        self._start = 0
        self._chunk: list[Tensor] = []

    def __call__(self, frames: Range, rows: Range) -> Tensor:
        """Raises ValueError for frames that are gone, or when there are no more."""
        start, stop = frames
        if start < self._start:
            raise ValueError(f"frame {start} is gone")
        self._chunk = self._chunk[start - self._start :]
        self._start = start
        while len(self._chunk) < stop - start:
            frame = next(self._frames, None)
            if frame is None:
                raise ValueError(f"the video ends before frame {stop - 1}")
            self._chunk.append(frame)
        return torch.stack([frame[:, slice(*rows)] for frame in self._chunk[: stop - start]], dim=1)
