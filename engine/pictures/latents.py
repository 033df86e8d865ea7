"""Given pictures and clips to what the transformer is conditioned on, through the exact encoder. Engine's thread."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.encode.pixels import FramePixels
from engine.encode.plan import EncodePlan, plan_encode
from engine.encode.streaming import encode_video
from engine.errors import EngineError, ErrorCode
from engine.generation import Given
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.pictures.clips import frames_of
from engine.pictures.fit import Target
from engine.pictures.given import GivenPictures, overlap_of
from engine.pictures.pixels import fitted_pixels, frames_around_grey
from engine.pictures.road import PictureRoad
from engine.sampling.conditioning import Conditioning, given_mask, picture_channels
from engine.weights.detect import VaeFiles
from engine.weights.load import load_vae
from engine.weights.place import OnRead, ignore

MANY_FRAMES = 1 << 30  # of a clip that nobody has looked at


@dataclass(frozen=True, slots=True)
class GivenPlan:
    """How what is given will be encoded, one after the other; None for what is not given.

    opening: the pictures that the video begins with, for CHANNELS in a video of its whole length. restyle: the clip
    that is noised up. smallest_bytes: the least that the peak could be cut down to.
    """

    opening: EncodePlan | None
    restyle: EncodePlan | None
    smallest_bytes: int

    @property
    def plans(self) -> tuple[EncodePlan, ...]:
        """All encodes, in order."""
        return tuple(plan for plan in (self.opening, self.restyle) if plan is not None)

    @property
    def predicted_peak_bytes(self) -> int:
        """Live tensor bytes on the card with the encoder's weights; 0 where nothing is encoded."""
        return max((plan.predicted_peak_bytes for plan in self.plans), default=0)


def plan_given(
    given: Given,
    target: Target,
    frames: int,
    config: VideoVaeConfig,
    dtype: torch.dtype,
    budget_bytes: int | None,
    pictures: GivenPictures | None = None,
) -> GivenPlan:
    """How `given` is encoded inside the budget for a video of `frames` frames.

    Without `pictures` a clip to go on with is taken to be long enough. Raises NO_PLAN_FITS with the smallest budget
    that would do, and INVALID_SIZE.
    """
    counts = _opening_frames(given, target.road, frames, config, pictures), None if given.restyle is None else frames
    width, height = target.sampled
    smallest = max((_smallest(count, height, width, config, dtype) for count in counts if count), default=0)
    if budget_bytes is not None and smallest > budget_bytes:
        raise EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=budget_bytes, smallest_bytes=smallest)
    opening, restyle = (
        plan_encode(count, height, width, config, dtype, budget_bytes) if count else None for count in counts
    )
    return GivenPlan(opening, restyle, smallest)


def _opening_frames(
    given: Given, road: PictureRoad, frames: int, config: VideoVaeConfig, pictures: GivenPictures | None
) -> int | None:
    """Frames of the video that the first pictures are encoded in; None where there are none."""
    if given.first is None and given.extend is None:
        return None
    if road is PictureRoad.CHANNELS:
        return frames
    if pictures is not None:
        return len(pictures.opening)
    return 1 if given.extend is None else overlap_of(MANY_FRAMES, frames, config.temporal_factor)


def _smallest(frames: int, height: int, width: int, config: VideoVaeConfig, dtype: torch.dtype) -> int:
    try:
        return plan_encode(frames, height, width, config, dtype, 0).predicted_peak_bytes
    except EngineError as error:
        if error.code is not ErrorCode.NO_PLAN_FITS:
            raise
        return int(error.details["smallest_bytes"])


def load_encoder(files: VaeFiles, device: torch.device, dtype: torch.dtype, on_read: OnRead = ignore) -> VideoVae:
    """The half of the VAE that encodes; the other half never comes onto `device`. Raises MODEL_INVALID."""
    vae = load_vae(files, torch.device("cpu"), dtype, on_read)
    del vae.decoder, vae.conv2
    return vae.to(device)


def encode_given(
    vae: VideoVae,
    pictures: GivenPictures,
    target: Target,
    plan: GivenPlan,
    on_layer: Callable[[], None],
    on_recut: Callable[[int], None] | None = None,
) -> Conditioning:
    """What `pictures` come to, but for CLIP's features; float32 in host memory.

    `on_layer` is called before every convolution and while a clip is waited for, and may raise to stop; `on_recut` as
    of `encode_video`. Raises PICTURE_INVALID for a clip that has changed meanwhile.
    """
    channels = known = start = None
    if plan.opening is not None:
        last = pictures.last if target.road is PictureRoad.CHANNELS else None
        video = frames_around_grey(pictures.opening, last, plan.opening.frames, target)
        latents = _encode(vae, video, plan.opening, on_layer, on_recut)
        if target.road is PictureRoad.CHANNELS:
            given, factor = len(pictures.opening), vae.config.temporal_factor
            mask = given_mask(given, plan.opening.latent_shape, factor, has_last=last is not None)
            channels = picture_channels(mask, latents)
        else:
            known = latents
    if plan.restyle is not None and pictures.restyle is not None:
        with frames_of(pictures.restyle, on_layer, 0, plan.restyle.frames) as frames:
            video = (fitted_pixels(frame, target) for frame in frames)
            start = _encode(vae, video, plan.restyle, on_layer, on_recut)
    return Conditioning(channels, known, start)


def _encode(
    vae: VideoVae,
    video: Iterable[Tensor],
    plan: EncodePlan,
    on_layer: Callable[[], None],
    on_recut: Callable[[int], None] | None,
) -> Tensor:
    return encode_video(vae, FramePixels(iter(video)), plan, on_layer, on_recut=on_recut)
