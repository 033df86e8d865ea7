"""The pictures and clips of a job, read before anything is loaded, so that what cannot be used is refused early.

Torch-free; lives on the engine's thread.
"""

from dataclasses import dataclass

import numpy as np

from engine.errors import EngineError, ErrorCode
from engine.generation import Given
from engine.output.video_writer import Before
from engine.pictures.clips import ClipFacts, frames_of, open_clip
from engine.pictures.ffmpeg_reader import OnWait
from engine.pictures.fit import Target
from engine.pictures.prepend import frames_before
from engine.pictures.read import read_picture

# Of a clip that is gone on with: enough to tell how things move.
OVERLAP_FRAMES = 9


@dataclass(frozen=True, slots=True, eq=False)
class GivenPictures:
    """Pictures as they were read, uint8 [H, W, 3]: `opening` those that the video begins with, `last` its last.

    restyle: the clip whose frames are noised up. before: what comes before the new frames in the MP4.
    """

    opening: tuple[np.ndarray, ...] = ()
    last: np.ndarray | None = None
    restyle: ClipFacts | None = None
    before: Before | None = None

    @property
    def described(self) -> tuple[np.ndarray, ...]:
        """The pictures that CLIP describes for models that want it: the first and, if there is one, the last."""
        return self.opening[:1] if self.last is None else (*self.opening[:1], self.last)


def overlap_of(available: int, frames: int, temporal_factor: int) -> int:
    """How many frames a video of `frames` shares with a clip of `available` that it goes on with: whole latent frames.

    Raises INVALID_SETTING for a video that would have no frame of its own.
    """
    if frames <= 1:
        raise _too_many(frames, f"more than 1, of which the clip's last frame is one: {temporal_factor + 1}")
    shared = min(OVERLAP_FRAMES, available, frames - temporal_factor)
    return max(1, (shared - 1) // temporal_factor * temporal_factor + 1)


def read_given(
    given: Given, target: Target, frames: int, fps: int, temporal_factor: int, on_wait: OnWait
) -> GivenPictures:
    """Everything that `given` names, for a video of `frames` frames at `fps`; clips are resampled to that rate.

    Raises PICTURE_INVALID, INVALID_SETTING for a clip that is shorter than the video to be made of it, and what
    `on_wait` raises.
    """
    opening: tuple[np.ndarray, ...] = ()
    before: Before | None = None
    if given.first is not None:
        opening = (read_picture(given.first),)
    if given.extend is not None:
        overlap_of(1, frames, temporal_factor)  # refuses before the clip is read
        clip = open_clip(given.extend, fps, on_wait)
        overlap = overlap_of(clip.frames, frames, temporal_factor)
        with frames_of(clip, on_wait, clip.frames - overlap) as pictures:
            opening = tuple(pictures)
        before = frames_before(clip, target, overlap)
    last = None if given.last is None else read_picture(given.last)
    restyle = None if given.restyle is None else open_clip(given.restyle, fps, on_wait)
    if restyle is not None and restyle.frames < frames:
        raise _too_many(frames, f"1 - {restyle.frames}, for the clip has no more at {fps} frames a second")
    return GivenPictures(opening, last, restyle, before)


def _too_many(frames: int, allowed: str) -> EngineError:
    return EngineError(ErrorCode.INVALID_SETTING, name="frames", value=frames, allowed=allowed)
