"""The frames of a clip that is gone on with, in front of the new ones: read one by one while the MP4 is written.

They are read on the writer's thread, so that neither a long clip nor a slow disk holds up the decode.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from engine.output.video_writer import Before
from engine.pictures.clips import ClipFacts, frames_of
from engine.pictures.ffmpeg_reader import OnWait
from engine.pictures.fit import Target, fitted_picture


def frames_before(clip: ClipFacts, target: Target, overlap: int) -> Before:
    """All of `clip`, at its `fps` and fitted to the video; its last `overlap` frames are the first of the new ones."""
    return Before(clip.frames, overlap, partial(bgrx_frames, clip, target))


def bgrx_frames(clip: ClipFacts, target: Target, on_wait: OnWait) -> Iterator[np.ndarray]:
    """The frames of `clip` as `VideoWriter` takes them, uint8 [H, W, 4]. Raises what `frames_of` raises."""
    with frames_of(clip, on_wait) as pictures:
        for picture in pictures:
            rgb = fitted_picture(picture, target)
            yield np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 255, np.uint8)])
