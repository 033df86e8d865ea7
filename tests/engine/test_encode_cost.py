"""Predicted against simulated peaks of the encode, and what the planner makes of a budget."""

import itertools

import pytest
import torch

from engine.encode.plan import plan_encode
from engine.encode.simulate import simulate_encode
from engine.errors import EngineError, ErrorCode
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from tests.engine.decode_cases import DEEP, FULL, NARROW
from tests.engine.encode_cases import CASES, SMALL_22, Case

GIB = 2**30
FULL_22 = VideoVae22Config()
SMALL = [
    *CASES[::3],
    *(Case(c, t, (4, 3), r, k) for c, t, r, k in itertools.product([NARROW, SMALL_22], [9, 21], [16, 24], [1, 2])),
    *(Case(DEEP, 9, (5, 3), rows, 1) for rows in (6, 16, 40)),
]
REAL = [
    Case(FULL, 5, (60, 104), 160, 1),
    Case(FULL, 1, (90, 160), 720, 1),  # here one strip is the dearest moment
    Case(FULL, 1, (90, 160), 90, 1),  # and here the attention of the tail
    Case(FULL_22, 5, (44, 80), 176, 1),
    Case(FULL_22, 1, (22, 40), 64, 1),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_prediction_is_the_peak_of_small_networks(case: Case, dtype: torch.dtype) -> None:
    made = case.plan(dtype)
    simulated = simulate_encode(case.config, case.size[1], dtype, made)
    assert made.predicted_peak_bytes == simulated.peak_bytes
    assert simulated.host_bytes <= made.host_bytes <= 1.05 * simulated.host_bytes


@pytest.mark.slow
@pytest.mark.parametrize("case", REAL, ids=str)
def test_the_prediction_holds_for_the_real_networks(case: Case) -> None:
    made = case.plan(torch.bfloat16)
    simulated = simulate_encode(case.config, case.size[1], torch.bfloat16, made)
    assert simulated.peak_bytes <= made.predicted_peak_bytes <= 1.05 * simulated.peak_bytes
    assert simulated.host_bytes <= made.host_bytes <= 1.05 * simulated.host_bytes


@pytest.mark.parametrize("frames", [1, 5, 81, 1001])
@pytest.mark.parametrize(
    ("config", "height", "width", "gib"),
    [(FULL, 720, 1280, 0.50), (FULL, 1088, 1920, 0.65), (FULL_22, 704, 1280, 1.7)],
)
def test_a_card_of_this_size_does(config: VideoVaeConfig, height: int, width: int, gib: float, frames: int) -> None:
    made = plan_encode(frames, height, width, config, torch.bfloat16, int(gib * GIB))
    assert made.predicted_peak_bytes <= gib * GIB


def test_long_videos_need_no_more_of_the_card_nor_of_host_memory_but_for_the_latents() -> None:
    short, long = (
        plan_encode(frames, 720, 1280, FULL, torch.bfloat16, strip_rows=16, chunk_latents=1) for frames in (81, 2001)
    )
    assert long.predicted_peak_bytes == short.predicted_peak_bytes
    latents = 4 * FULL.z_dim * 90 * 160 * (long.latent_frames - short.latent_frames)
    assert long.host_bytes - short.host_bytes == latents


def test_more_memory_makes_larger_steps() -> None:
    plans = [plan_encode(81, 720, 1280, FULL, torch.bfloat16, int(gib * GIB)) for gib in (0.4, 0.8, 2, 8, 80)]
    steps = [made.strips * made.chunks for made in plans]
    assert steps == sorted(steps, reverse=True)
    assert plans[-1].strips == 1 < plans[0].strips
    assert all(made.predicted_peak_bytes <= (made.budget_bytes or 0) for made in plans)


def test_the_smallest_budget_that_is_named_does_fit() -> None:
    with pytest.raises(EngineError) as refused:
        plan_encode(81, 720, 1280, FULL, torch.bfloat16, 100 * 2**20)
    assert refused.value.code is ErrorCode.NO_PLAN_FITS
    smallest = int(refused.value.details["smallest_bytes"])
    assert plan_encode(81, 720, 1280, FULL, torch.bfloat16, smallest).predicted_peak_bytes == smallest
    with pytest.raises(EngineError):
        plan_encode(81, 720, 1280, FULL, torch.bfloat16, smallest - 1)


@pytest.mark.parametrize(
    ("frames", "height", "width", "rows", "chunk", "code"),
    [
        (0, 32, 32, None, None, ErrorCode.INVALID_FRAMES),
        (1, 40, 32, None, None, ErrorCode.INVALID_SIZE),
        (1, 32, 0, None, None, ErrorCode.INVALID_SIZE),
        (1, 32, 32, 15, None, ErrorCode.INVALID_SETTING),
        (1, 32, 32, 0, None, ErrorCode.INVALID_SETTING),
        (1, 32, 32, None, 0, ErrorCode.INVALID_SETTING),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    frames: int, height: int, width: int, rows: int | None, chunk: int | None, code: ErrorCode
) -> None:
    with pytest.raises(EngineError) as refused:
        plan_encode(frames, height, width, SMALL_22, torch.float32, strip_rows=rows, chunk_latents=chunk)
    assert refused.value.code is code


def test_chunks_cover_every_frame_once() -> None:
    made = plan_encode(39, 16, 16, NARROW, torch.float32, chunk_latents=4)
    assert [made.chunk_frame_range(chunk) for chunk in range(made.chunks)] == [(0, 1), (1, 17), (17, 33), (33, 37)]
    assert made.frames == 37
