"""Given pictures through the streaming encoder, against encoding the whole clip at once."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.cancel import Cancelled
from engine.commands import EMBEDDED_MODEL
from engine.errors import EngineError, ErrorCode
from engine.generation import Given
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.pictures.clips import frames_of
from engine.pictures.fit import Target
from engine.pictures.given import GivenPictures, overlap_of, read_given
from engine.pictures.latents import GivenPlan, encode_given, load_encoder, plan_given
from engine.pictures.pixels import fitted_pixels
from engine.pictures.road import PictureRoad
from engine.sampling.conditioning import Conditioning
from engine.weights.detect import find_vae
from tests.engine.clip_files import make_clip, numbers_of
from tests.engine.decode_cases import NARROW
from tests.engine.encode_cases import network
from tests.engine.video_writing import nothing

CPU, FLOAT = torch.device("cpu"), torch.float32
CHANNELS, FRAMES, NONE = PictureRoad.CHANNELS, PictureRoad.FRAMES, PictureRoad.NONE


@pytest.fixture(scope="module")
def mini() -> VideoVae:
    vae = load_encoder(find_vae(EMBEDDED_MODEL), CPU, FLOAT)
    return vae.requires_grad_(requires_grad=False)


@pytest.fixture
def files(tmp_path: Path) -> Given:
    dice = np.random.default_rng(0)
    for name in ("first", "last"):
        small = dice.integers(0, 256, (5, 7, 3), np.uint8)
        Image.fromarray(small).resize((90, 70), Image.Resampling.BICUBIC).save(tmp_path / f"{name}.png")
    clip = make_clip(tmp_path / "clip.mp4", 21)
    return Given(tmp_path / "first.png", tmp_path / "last.png", clip, clip)


def there(value: torch.Tensor | None) -> torch.Tensor:
    assert value is not None
    return value


def encoded(
    vae: VideoVae, given: Given, target: Target, frames: int, budget: int | None = None
) -> tuple[GivenPictures, GivenPlan, Conditioning]:
    pictures = read_given(given, target, frames, 16, 4, nothing)
    plan = plan_given(given, target, frames, vae.config, FLOAT, budget, pictures)
    return pictures, plan, encode_given(vae, pictures, target, plan, nothing)


def whole(vae: VideoVae, video: list[torch.Tensor]) -> torch.Tensor:
    return vae.encode(torch.stack(video, dim=1)[None])


@pytest.mark.parametrize("size", [(64, 48), (90, 60)])
@pytest.mark.parametrize("has_last", [False, True])
def test_channels_are_the_latents_of_the_whole_clip(
    mini: VideoVae, files: Given, size: tuple[int, int], has_last: bool
) -> None:
    given = replace(files, extend=None, restyle=None, last=files.last if has_last else None)
    target = Target(size, 16, CHANNELS)
    smallest = plan_given(given, target, 17, mini.config, FLOAT, None).smallest_bytes
    pictures, plan, made = encoded(mini, given, target, 17, smallest)
    assert plan.predicted_peak_bytes == smallest
    assert plan.opening is not None
    assert plan.opening.strips > 1
    grey = torch.zeros(3, target.sampled[1], target.sampled[0])
    video = [fitted_pixels(pictures.opening[0], target), *[grey] * 16]
    if pictures.last is not None:
        video[-1] = fitted_pixels(pictures.last, target)
    assert there(made.channels).shape == (1, 4 + 8, 5, target.sampled[1] // 8, target.sampled[0] // 8)
    assert (there(made.channels)[:, 4:] - whole(mini, video)).abs().max() < 1e-4
    assert there(made.channels)[0, :4, :, 0, 0].sum() == 4 + has_last
    assert made.known is made.start is None


def test_a_first_picture_is_one_latent_frame(mini: VideoVae, files: Given) -> None:
    target = Target((64, 48), 16, FRAMES)
    pictures, plan, made = encoded(mini, Given(files.first), target, 33)
    assert plan.opening is not None
    assert plan.opening.frames == 1
    assert (there(made.known) - whole(mini, [fitted_pixels(pictures.opening[0], target)])).abs().max() < 1e-4
    assert made.channels is None


@pytest.mark.parametrize("road", [CHANNELS, FRAMES])
def test_the_end_of_a_clip_is_what_is_gone_on_with(mini: VideoVae, files: Given, road: PictureRoad) -> None:
    target, given = Target((64, 48), 16, road), Given(extend=files.extend)
    pictures, _, made = encoded(mini, given, target, 17)
    assert numbers_of(np.stack(pictures.opening)) == list(range(12, 21))
    known = [fitted_pixels(picture, target) for picture in pictures.opening]
    if road is FRAMES:
        assert there(made.known).shape[2] == 3
        assert (there(made.known) - whole(mini, known)).abs().max() < 1e-4
        return
    video = [*known, *[torch.zeros(3, 48, 64)] * 8]
    assert (there(made.channels)[:, 4:] - whole(mini, video)).abs().max() < 1e-4
    assert there(made.channels)[0, :4, :, 0, 0].sum(0).tolist() == [4, 4, 4, 0, 0]


def test_a_clip_to_restyle_beside_a_picture(mini: VideoVae, files: Given) -> None:
    target, given = Target((64, 48), 16, FRAMES), Given(files.first, restyle=files.restyle)
    pictures, plan, made = encoded(mini, given, target, 9)
    assert len(plan.plans) == 2
    assert pictures.restyle is not None
    with frames_of(pictures.restyle, nothing, 0, 9) as frames:
        video = [fitted_pixels(frame, target) for frame in frames]
    assert (there(made.start) - whole(mini, video)).abs().max() < 1e-4
    assert there(made.known).shape[2] == 1


def test_a_clip_may_be_too_short(files: Given) -> None:
    with pytest.raises(EngineError, match="value=25, allowed=1 - 21") as caught:
        read_given(Given(restyle=files.restyle), Target((64, 48), 16, NONE), 25, 16, 4, nothing)
    assert caught.value.code is ErrorCode.INVALID_SETTING
    with pytest.raises(EngineError, match="value=1, allowed=more"):
        read_given(Given(extend=files.extend), Target((64, 48), 16, FRAMES), 1, 16, 4, nothing)


@pytest.mark.parametrize(
    ("available", "frames", "overlap"), [(100, 81, 9), (8, 81, 5), (3, 81, 1), (1, 5, 1), (100, 5, 1), (100, 9, 5)]
)
def test_overlaps_are_whole_latent_frames_and_leave_new_ones(available: int, frames: int, overlap: int) -> None:
    assert overlap_of(available, frames, 4) == overlap


def test_nothing_given_is_nothing_to_encode() -> None:
    plan = plan_given(Given(), Target((64, 48), 16, NONE), 33, NARROW, FLOAT, 1)
    assert (plan.plans, plan.predicted_peak_bytes, plan.smallest_bytes) == ((), 0, 0)


def test_budgets_of_the_real_encoder() -> None:
    target = Target((1280, 720), 16, CHANNELS)
    outlook = plan_given(Given(Path("a")), target, 81, VideoVaeConfig(), torch.bfloat16, 2**30)
    assert outlook.smallest_bytes < outlook.predicted_peak_bytes <= 2**30
    with pytest.raises(EngineError) as caught:
        plan_given(Given(Path("a")), target, 81, VideoVaeConfig(), torch.bfloat16, outlook.smallest_bytes - 1)
    assert caught.value.code is ErrorCode.NO_PLAN_FITS
    assert caught.value.details["smallest_bytes"] == outlook.smallest_bytes
    tight = plan_given(Given(Path("a")), target, 81, VideoVaeConfig(), torch.bfloat16, outlook.smallest_bytes)
    assert tight.predicted_peak_bytes == outlook.smallest_bytes


def stopping_after(calls: int) -> Callable[[], None]:
    counted = count()

    def check() -> None:
        if next(counted) >= calls:
            raise Cancelled

    return check


@pytest.mark.parametrize("calls", [0, 5, 40])
def test_it_stops_between_layers(files: Given, calls: int) -> None:
    target, given = Target((64, 48), 16, FRAMES), Given(restyle=files.restyle)
    pictures = read_given(given, target, 9, 16, 4, nothing)
    plan = plan_given(given, target, 9, NARROW, FLOAT, None, pictures)
    with pytest.raises(Cancelled):
        encode_given(network(NARROW), pictures, target, plan, stopping_after(calls))
