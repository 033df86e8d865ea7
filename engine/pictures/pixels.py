"""Pictures as the VAE and CLIP take them. Lives on the engine's thread."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.pictures.fit import Target, fitted_picture, used_part
from engine.pictures.road import PictureRoad


def levels(picture: np.ndarray) -> Tensor:
    """Bytes [H, W, 3] as [3, H, W] float32 in -1..1, rounded as the official code rounds."""
    values = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float()  # [3, H, W]
    return values.div_(255).sub_(0.5).div_(0.5)


def fitted_pixels(picture: np.ndarray, target: Target) -> Tensor:
    """`picture` [H, W, 3] fitted to the video, [3, h, w] of the sampled size in -1..1.

    For CHANNELS by cubic interpolation in floats, neither smoothed nor clamped, as in the official
    ``wan/image2video.py``; else the levels of `fitted_picture`. What is sampled beyond the video is its mirror image.
    """
    width, height = target.size
    if target.road is PictureRoad.CHANNELS:
        part = levels(used_part(picture, target))[None]
        pixels = F.interpolate(part, (height, width), mode="bicubic", align_corners=False)[0]
    else:
        pixels = levels(fitted_picture(picture, target))
    return _mirrored(pixels, target.sampled)


def _mirrored(pixels: Tensor, sampled: tuple[int, int]) -> Tensor:
    """Fill [3, h, w] up to `sampled` (width, height), right and below."""
    beyond = (sampled[1] - pixels.shape[1], sampled[0] - pixels.shape[2])
    for dim, count in enumerate(beyond, start=1):
        if count:
            edge = pixels.narrow(dim, pixels.shape[dim] - count, count).flip(dim)
            pixels = torch.cat([pixels, edge], dim)
    return pixels


def described_pixels(pictures: Iterable[np.ndarray], target: Target) -> tuple[Tensor, ...]:
    """What CLIP is to describe of each picture, [1, 3, H, W] in -1..1: what is seen of it, in its own size."""
    return tuple(levels(used_part(picture, target))[None] for picture in pictures)


def frames_around_grey(
    first: Iterable[np.ndarray], last: np.ndarray | None, frames: int, target: Target
) -> Iterator[Tensor]:
    """The frames of the video that pictures are encoded in, [3, h, w] each, made when they are asked for.

    The `first` ones, then mid grey, and at the end the `last`; `frames` in all.
    """
    made = 0
    for picture in first:
        made += 1
        yield fitted_pixels(picture, target)
    width, height = target.sampled
    grey = torch.zeros(1, 1, 1).expand(3, height, width)
    for _ in range(frames - made - (last is not None)):
        yield grey
    if last is not None:
        yield fitted_pixels(last, target)
