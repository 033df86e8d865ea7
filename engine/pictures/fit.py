"""How pictures are brought to the size of a video: officially where there is an official way, and never squashed.

Torch-free, so that the window can show what will be used; safe on any thread. Sizes are (width, height).
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.pictures.road import PictureRoad
from engine.sampling.validation import sampled_size

Size = tuple[int, int]
MOST_CUT = 4  # times the sides' ratio: a longer picture is shortened first, so that it does not become a huge one


@dataclass(frozen=True, slots=True)
class Target:
    """A video that pictures are fitted to: its `size`, the `multiple` of sides that the model samples, and the road."""

    size: Size
    multiple: int
    road: PictureRoad

    @property
    def sampled(self) -> Size:
        """The size that is sampled, and cut down to that of the video. Raises INVALID_SIZE."""
        return sampled_size(*self.size, self.multiple)


def fitted_size(picture: Size, area: int, multiple: int, road: PictureRoad = PictureRoad.CHANNELS) -> Size:
    """The size of a video of about `area` pixels with the sides' ratio of `picture`, both multiples of `multiple`.

    The formulas of the official ``wan/image2video.py``, and for FRAMES of ``best_output_size`` in
    ``wan/utils/utils.py``; no side is below one multiple.
    """
    if road is PictureRoad.FRAMES:
        return _closest_size(picture, area, multiple)
    ratio = picture[1] / picture[0]
    return _whole(math.sqrt(area / ratio), multiple), _whole(math.sqrt(area * ratio), multiple)


def _closest_size(picture: Size, area: int, multiple: int) -> Size:
    """Of the two sizes that come of rounding one side first, the one whose ratio is closer."""
    ratio = picture[0] / picture[1]
    width = math.sqrt(area * ratio)
    by_width, by_height = _whole(width, multiple), _whole(area / width, multiple)
    sizes = ((by_width, _whole(area / by_width, multiple)), (_whole(area / by_height, multiple), by_height))
    wrong = [max(ratio * h / w, w / (ratio * h)) for w, h in sizes]
    return sizes[0] if wrong[0] < wrong[1] else sizes[1]


def _whole(side: float, multiple: int) -> int:
    return max(multiple, int(side // multiple) * multiple)


def is_official(picture: Size, target: Target) -> bool:
    """Whether some area makes `fitted_size` choose the target's size for a picture of the size `picture`.

    Such a picture is resized as a whole: what it is squashed by is less than a multiple. The area's root lies between
    both sides and one multiple more, seen at the picture's ratio.
    """
    (w, h), (width, height), more = target.size, picture, target.multiple
    is_whole = w % more == h % more == 0
    return is_whole and h * width < (w + more) * height and w * height < (h + more) * width


def used_part(picture: np.ndarray, target: Target) -> np.ndarray:
    """What is seen of `picture` [H, W, 3] in a video of the target's size: all, or the middle that has its ratio."""
    height, width = picture.shape[:2]
    if is_official((width, height), target):
        return picture
    w, h = target.size
    return _middle(picture, min(width, round(height * w / h)), min(height, round(width * h / w)))


def fitted_picture(picture: np.ndarray, target: Target) -> np.ndarray:
    """`picture`, uint8 [H, W, 3], in the target's size, uint8 [h, w, 3].

    For FRAMES, and for clips that are begun from or gone on with, as in the official ``wan/textimage2video.py``:
    Lanczos to a size that covers the target, then the middle of it; models that take channels are given floats of
    another kind (`engine.pictures.pixels`), of which this is a likeness in bytes.
    """
    if target.road is PictureRoad.CHANNELS:
        return np.array(Image.fromarray(used_part(picture, target)).resize(target.size, Image.Resampling.BICUBIC))
    picture = _shortened(picture, target.size)
    height, width = picture.shape[:2]
    w, h = target.size
    scale = max(w / width, h / height)
    covering = (round(width * scale), round(height * scale))
    return _middle(np.array(Image.fromarray(picture).resize(covering, Image.Resampling.LANCZOS)), w, h)


def _shortened(picture: np.ndarray, size: Size) -> np.ndarray:
    height, width = picture.shape[:2]
    w, h = size
    return _middle(picture, min(width, MOST_CUT * height * w // h + 1), min(height, MOST_CUT * width * h // w + 1))


def _middle(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    width, height = max(1, width), max(1, height)
    left, top = (picture.shape[1] - width) // 2, (picture.shape[0] - height) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
