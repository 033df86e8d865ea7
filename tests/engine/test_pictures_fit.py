"""Sizes and pictures against the official formulas, written down a second time here as they stand there."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from engine.pictures.fit import Target, fitted_picture, fitted_size, is_official, used_part
from engine.pictures.pixels import described_pixels, fitted_pixels, frames_around_grey, levels
from engine.pictures.road import PictureRoad

CHANNELS, FRAMES, NONE = PictureRoad.CHANNELS, PictureRoad.FRAMES, PictureRoad.NONE
SIDES = st.integers(200, 6000)
AREAS = st.sampled_from([480 * 832, 720 * 1280, 704 * 1280, 256 * 256])


def official_i2v(width: int, height: int, area: int) -> tuple[int, int]:
    ratio = height / width
    rows = round(np.sqrt(area * ratio) // 8 // 2 * 2)
    columns = round(np.sqrt(area / ratio) // 8 // 2 * 2)
    return columns * 8, rows * 8


def official_ti2v(w: int, h: int, area: int, step: int = 32) -> tuple[int, int]:
    ratio = w / h
    ow = (area * ratio) ** 0.5
    oh = area / ow
    ow1 = int(ow // step * step)
    oh1 = int(area / ow1 // step * step)
    oh2 = int(oh // step * step)
    ow2 = int(area / oh2 // step * step)
    ratio1, ratio2 = ow1 / oh1, ow2 / oh2
    first = max(ratio / ratio1, ratio1 / ratio) < max(ratio / ratio2, ratio2 / ratio)
    return (ow1, oh1) if first else (ow2, oh2)


@given(SIDES, SIDES, AREAS)
def test_sizes_are_the_official_ones(width: int, height: int, area: int) -> None:
    assume(1 / 8 < width / height < 8)
    assert fitted_size((width, height), area, 16) == official_i2v(width, height, area)
    assert fitted_size((width, height), area, 32, FRAMES) == official_ti2v(width, height, area)


@given(st.integers(1, 10**5), st.integers(1, 10**5), st.integers(1, 10**7), st.sampled_from([8, 16, 32]))
def test_any_picture_has_a_size(width: int, height: int, area: int, multiple: int) -> None:
    for road in PictureRoad:
        size = fitted_size((width, height), area, multiple, road)
        assert all(side >= multiple and side % multiple == 0 for side in size)


@given(SIDES, SIDES, st.integers(10_000, 2_000_000))
def test_the_official_size_of_any_area_is_known_as_such(width: int, height: int, area: int) -> None:
    size = fitted_size((width, height), area, 16)
    assume(min(size) > 16)
    assert is_official((width, height), Target(size, 16, CHANNELS))


@given(st.integers(20, 400), st.integers(20, 400), st.integers(2, 40), st.integers(2, 40))
def test_what_is_called_official_is_the_size_of_some_area(width: int, height: int, columns: int, rows: int) -> None:
    w, h = 16 * columns, 16 * rows
    root = math.sqrt(width / height)
    low, high = max(h * root, w / root), min((h + 16) * root, (w + 16) / root)
    assume(abs(high - low) > 1e-6 * high)
    is_size = low < high and fitted_size((width, height), round(((low + high) / 2) ** 2), 16) == (w, h)
    assume(is_size or low > high or high - low > 1)  # an area is a whole number
    assert is_official((width, height), Target((w, h), 16, CHANNELS)) == (low < high)


def picture(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", [(123, 77), (640, 480), (300, 900), (61, 50)])
def test_channels_are_resized_as_officially(size: tuple[int, int]) -> None:
    source = picture(*size)
    w, h = fitted_size(size, 128 * 96, 16)
    image = torch.from_numpy(source).permute(2, 0, 1).float().div(255).sub_(0.5).div_(0.5)
    official = F.interpolate(image[None], size=(h, w), mode="bicubic")[0]
    target = Target((w, h), 16, CHANNELS)
    assert torch.equal(fitted_pixels(source, target), official)
    assert torch.equal(described_pixels([source], target)[0], image[None])


@pytest.mark.parametrize("size", [(123, 77), (640, 480), (300, 900), (61, 50), (2000, 1111)])
@pytest.mark.parametrize("road", [FRAMES, NONE])
def test_frames_are_resized_and_cropped_as_officially(size: tuple[int, int], road: PictureRoad) -> None:
    source = picture(*size)
    w, h = fitted_size(size, 128 * 96, 32, FRAMES)
    scale = max(w / size[0], h / size[1])
    resized = Image.fromarray(source).resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.LANCZOS)
    left, top = (resized.width - w) // 2, (resized.height - h) // 2
    official = np.array(resized.crop((left, top, left + w, top + h)))
    target = Target((w, h), 32, road)
    assert (fitted_picture(source, target) == official).all()
    assert torch.equal(fitted_pixels(source, target), levels(official))


def ramps(width: int, height: int) -> np.ndarray:
    """Red tells the column, green the row, each from 0 to 255."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.dstack([columns, rows, columns * 0]).round().astype(np.uint8)


@given(st.integers(40, 300), st.integers(40, 300), st.integers(2, 12), st.integers(2, 12), st.sampled_from(PictureRoad))
def test_another_ratio_cuts_the_middle_out_and_squashes_nothing(
    width: int, height: int, columns: int, rows: int, road: PictureRoad
) -> None:
    target = Target((16 * columns, 16 * rows), 16, road)
    assume(not is_official((width, height), target))
    w, h = target.size
    scale = max(w / width, h / height)
    assume(min(w, h) / scale > 16)
    made = fitted_picture(ramps(width, height), target).astype(float)
    inside = slice(h // 4, -(h // 4) or None), slice(w // 4, -(w // 4) or None)
    across = np.gradient(made[..., 0], axis=1)[inside].mean() * (width - 1) / 255 * scale
    down = np.gradient(made[..., 1], axis=0)[inside].mean() * (height - 1) / 255 * scale
    assert across == pytest.approx(1, abs=0.12)
    assert down == pytest.approx(1, abs=0.12)
    middle = made[h // 2 - 1 : h // 2 + 1, w // 2 - 1 : w // 2 + 1].mean(axis=(0, 1))
    assert np.abs(middle[:2] - 127.5).max() <= 2 + 255 * max(1 / width, 1 / height)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000), (1, 1), (3, 5000)])
@pytest.mark.parametrize("road", PictureRoad)
def test_the_longest_pictures_stay_small(size: tuple[int, int], road: PictureRoad) -> None:
    target = Target((832, 480), 16, road)
    assert fitted_picture(picture(*size), target).shape == (480, 832, 3)
    assert fitted_pixels(picture(*size), target).shape == (3, 480, 832)


@pytest.mark.parametrize("road", PictureRoad)
@pytest.mark.parametrize("size", [(128, 72), (90, 60), (62, 130)])
def test_what_is_sampled_beyond_the_video_mirrors_it(road: PictureRoad, size: tuple[int, int]) -> None:
    target = Target(size, 16, road)
    w, h = target.sampled
    assert (w, h) == (-(-size[0] // 16) * 16, -(-size[1] // 16) * 16)
    pixels = fitted_pixels(ramps(*size), target).numpy()
    inner = pixels[:, : size[1], : size[0]]
    assert np.array_equal(pixels, np.pad(inner, ((0, 0), (0, h - size[1]), (0, w - size[0])), "symmetric"))
    assert np.abs(inner - levels(ramps(*size)).numpy()).max() < 1e-6  # a picture of that size is not touched


def test_the_likeness_shows_the_part_that_is_used() -> None:
    target = Target((64, 64), 16, CHANNELS)
    source = ramps(200, 100)
    assert used_part(source, target).shape == (100, 100, 3)
    exact = (fitted_pixels(source, target) + 1).mul(127.5).permute(1, 2, 0).numpy()
    assert np.abs(fitted_picture(source, target) - exact).mean() < 1


def test_frames_around_grey() -> None:
    target = Target((32, 16), 16, CHANNELS)
    first, last = ramps(32, 16), ramps(32, 16)[::-1]
    video = list(frames_around_grey([first, first], last, 7, target))
    assert len(video) == 7
    assert torch.equal(torch.stack(video[2:6]), torch.zeros(4, 3, 16, 32))
    assert video[3].untyped_storage().nbytes() == 4
    assert torch.equal(video[1], fitted_pixels(first, target))
    assert torch.equal(video[6], fitted_pixels(last, target))
