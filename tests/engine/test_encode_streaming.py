"""The streaming encode against encoding whole, and against a plain one that shares no code with it."""

import dataclasses
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.cancel import Cancelled
from engine.encode.pixels import FramePixels, pixels_of
from engine.encode.streaming import encode_video
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from tests.engine.decode_cases import DEEP, NARROW
from tests.engine.encode_cases import CASES, SMALL_22, Case, network
from tests.engine.plain_encode import PlainEncoder
from tests.parity.fill import filled, uniform
from tests.parity.official import VECTORS, assert_recorded

BOTH = [NARROW, SMALL_22]
ONE_STRIP = [Case(NARROW, frames, (3, 4), 24, chunk) for frames, chunk in ((1, 1), (9, 1), (13, 2))]


@cache
def vae_for(config: VideoVaeConfig) -> VideoVae:
    return network(config)


def streamed(case: Case, video: Tensor) -> Tensor:
    return encode_video(vae_for(case.config), pixels_of(video[0]), case.plan())


def difference(case: Case) -> float:
    video = case.video()
    return float((streamed(case, video) - vae_for(case.config).encode(video)).abs().max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_cut_gives_the_latents_of_the_whole(case: Case) -> None:
    assert difference(case) <= 1e-5


@pytest.mark.parametrize("case", ONE_STRIP, ids=str)
def test_one_strip_is_equal_to_the_bit(case: Case) -> None:
    video, config = case.video(), case.config
    plain = PlainEncoder(
        vae_for(config).state_dict(), config.temporal_downsample, config.num_res_blocks, len(config.dim_mult)
    )
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    assert torch.equal(streamed(case, video), plain.encode(video, mean, std))


@pytest.mark.parametrize("config", [DEEP, dataclasses.replace(SMALL_22, num_res_blocks=2)])
def test_more_blocks_a_stage_make_a_longer_lag_and_no_seam(config: VideoVaeConfig) -> None:
    assert difference(Case(config, 9, (4, 2), 10, 1)) <= 1e-5


@pytest.mark.parametrize("config", [NARROW, dataclasses.replace(SMALL_22, dim_mult=(1, 2, 4, 2))])
def test_frames_may_halve_at_both_ends(config: VideoVaeConfig) -> None:
    uneven = dataclasses.replace(config, temporal_downsample=(True, False, True))
    assert difference(Case(uneven, 9, (3, 2), 12, 1)) <= 1e-5


@pytest.mark.parametrize("config", BOTH)
def test_surplus_frames_are_dropped(config: VideoVaeConfig) -> None:
    case = Case(config, 8, (2, 2), 16, 2)
    assert case.plan().frames == 5
    assert difference(case) <= 1e-5


@pytest.mark.parametrize("config", BOTH)
def test_bfloat16_is_cut_as_exactly_as_it_rounds(config: VideoVaeConfig) -> None:
    case, half = Case(config, 5, (3, 3), 16, 1), network(config, torch.bfloat16)
    video = case.video()
    exact = vae_for(config).encode(video)
    rounding = (half.encode(video.bfloat16()).float() - exact).abs().mean()
    latents = encode_video(half, pixels_of(video[0]), case.plan(torch.bfloat16))
    assert latents.dtype == torch.float32
    assert (latents - exact).abs().mean() <= 1.1 * rounding


@pytest.mark.parametrize("case", [*CASES[1:4], *CASES[18:21]], ids=str)
def test_nothing_is_computed_twice(case: Case) -> None:
    video = case.video()
    with FlopCounterMode(display=False) as ours:
        streamed(case, video)
    with FlopCounterMode(display=False) as whole:
        vae_for(case.config).encode(video)
    assert ours.get_total_flops() == pytest.approx(whole.get_total_flops(), rel=1e-3)
    assert case.plan().tflop * 1e12 == pytest.approx(ours.get_total_flops(), rel=1e-3)


@pytest.mark.parametrize("config", BOTH)
def test_frames_are_taken_one_chunk_at_a_time_and_once(config: VideoVaeConfig) -> None:
    case = Case(config, 14, (2, 1), 8, 1)
    video, taken = case.video(), 0
    asked: list[int] = []

    def frames() -> Iterator[Tensor]:
        nonlocal taken
        for frame in video[0].unbind(1):
            taken += 1
            yield frame

    source = FramePixels(frames())

    def watched(span: tuple[int, int], rows: tuple[int, int]) -> Tensor:
        pixels = source(span, rows)
        assert taken == span[1]
        asked.append(span[0])
        return pixels

    latents = encode_video(vae_for(config), watched, case.plan())
    assert asked == sorted(asked)
    assert taken == 13
    assert (latents - vae_for(config).encode(video)).abs().max() <= 1e-5


def test_a_video_may_not_end_early_nor_run_backwards() -> None:
    source = FramePixels(iter(torch.zeros(6, 3, 4, 4)))
    assert source((0, 1), (1, 3)).shape == (3, 1, 2, 4)
    assert source((1, 5), (0, 4)).shape == (3, 4, 4, 4)
    with pytest.raises(ValueError, match="frame 0 is gone"):
        source((0, 1), (0, 4))
    with pytest.raises(ValueError, match="ends before frame 8"):
        source((5, 9), (0, 4))


class Shortage:
    """Runs out of memory at the convolutions on strips whose number is in `at`."""

    def __init__(self, *at: int) -> None:
        self.at = at
        self.seen = 0

    def __call__(self) -> None:
        if any(Path(frame.filename).name == "tail.py" for frame in traceback.extract_stack()):
            return
        self.seen += 1
        if self.seen in self.at:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("config", BOTH)
@pytest.mark.parametrize("at", [(1,), (9, 10), (31, 45), (13, 30, 50)])
def test_memory_may_run_out(config: VideoVaeConfig, at: tuple[int, ...]) -> None:
    case, rows = Case(config, 9, (5, 2), 5 * config.spatial_factor, 1), list[int]()
    video = case.video()
    vae = vae_for(config)
    latents = encode_video(vae, pixels_of(video[0]), case.plan(), Shortage(*at), on_recut=rows.append)
    assert len(rows) == len(at)
    assert rows == sorted(rows, reverse=True)
    assert all(count % config.patch_size == 0 for count in rows)
    assert (latents - vae.encode(video)).abs().max() <= 1e-5


def test_the_smallest_strips_raise_the_error_itself() -> None:
    case = Case(NARROW, 1, (2, 1), 8, 1)
    with pytest.raises(torch.OutOfMemoryError):
        encode_video(vae_for(NARROW), pixels_of(case.video()[0]), case.plan(), Shortage(3))


def test_it_can_stop_before_any_convolution() -> None:
    def stop() -> None:
        raise Cancelled

    case = Case(NARROW, 1, (2, 1), 8, 1)
    with pytest.raises(Cancelled):
        encode_video(vae_for(NARROW), pixels_of(case.video()[0]), case.plan(), stop)


MEAN, STD = tuple(uniform("mean", 4)), tuple(1 + 0.2 * uniform("std", 4))
RECORDED_21 = VideoVaeConfig(dim=8, z_dim=4, latents_mean=MEAN, latents_std=STD)
RECORDED_22 = VideoVae22Config(dim=8, decoder_dim=8, z_dim=4, latents_mean=MEAN, latents_std=STD)


@pytest.mark.parametrize("rows", [2, 8, 16])
def test_official_encoding_of_wan21(rows: int) -> None:
    video = filled("video", 1, 3, 9, 16, 16)
    assert_recorded(streamed(Case(RECORDED_21, 9, (2, 2), rows, 1), video), VECTORS["vae21"]["encode_normalised"])


@pytest.mark.parametrize("rows", [2, 16, 32])
def test_official_encoding_of_wan22(rows: int) -> None:
    video = filled("video", 1, 3, 9, 32, 32)
    assert_recorded(streamed(Case(RECORDED_22, 9, (2, 2), rows, 1), video), VECTORS["vae22"]["encode_normalised"])
