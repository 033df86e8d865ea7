"""The planner keeps to budgets, prefers speed inside them, and says what would fit when nothing does."""

import pytest
import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.cut import CachePlace
from engine.decode.plan import plan
from engine.decode.stem_cost import stem_live
from engine.errors import EngineError, ErrorCode
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from tests.engine.decode_cases import FULL, NARROW

GIB = 2**30
HD_61 = (16, 90, 160)
FULL_HD_61 = (16, 136, 240)


@pytest.mark.parametrize("gib", [0.4, 0.5, 0.7, 1.2, 5, 12, 40])
def test_the_prediction_stays_inside_the_budget(gib: float) -> None:
    budget = int(gib * GIB)
    assert plan(HD_61, FULL, torch.bfloat16, DecodeSettings(budget_bytes=budget)).predicted_peak_bytes <= budget


def test_more_memory_never_makes_a_slower_kind_of_plan() -> None:
    budgets = (0.4, 0.7, 1.5, 6, 40)
    plans = [plan(HD_61, FULL, torch.bfloat16, DecodeSettings(budget_bytes=int(b * GIB))) for b in budgets]
    steps = [made.strips * made.chunks for made in plans]
    assert steps == sorted(steps, reverse=True)
    assert plans[0].caches is CachePlace.HOST
    assert plans[-1].caches is CachePlace.CARD
    assert steps[-1] < steps[0]


@pytest.mark.parametrize(
    ("shape", "rows", "gib"), [(HD_61, 16, 0.51), (HD_61, 32, 0.74), (FULL_HD_61, 16, 0.70), (FULL_HD_61, 32, 1.04)]
)
def test_no_more_than_the_designs_prototype_took(shape: tuple[int, int, int], rows: int, gib: float) -> None:
    settings = DecodeSettings(DecodeMode.STRIP_MAJOR, rows, 1)
    made = plan(shape, FULL, torch.bfloat16, settings)
    assert made.predicted_peak_bytes <= gib * GIB
    assert made.ratio_to_untiled == pytest.approx(1, rel=1e-3)


def test_the_smallest_budget_that_is_named_does_fit() -> None:
    with pytest.raises(EngineError) as refused:
        plan(HD_61, FULL, torch.bfloat16, DecodeSettings(budget_bytes=100 * 2**20))
    assert refused.value.code is ErrorCode.NO_PLAN_FITS
    smallest = int(refused.value.details["smallest_bytes"])
    assert smallest > 100 * 2**20
    assert plan(HD_61, FULL, torch.bfloat16, DecodeSettings(budget_bytes=smallest)).predicted_peak_bytes == smallest
    with pytest.raises(EngineError):
        plan(HD_61, FULL, torch.bfloat16, DecodeSettings(budget_bytes=smallest - 1))


def test_host_memory_is_a_limit_too() -> None:
    settings = DecodeSettings(budget_bytes=int(0.5 * GIB))
    free = plan(HD_61, FULL, torch.bfloat16, settings)
    assert free.host_bytes > GIB // 2
    with pytest.raises(EngineError) as refused:
        plan(HD_61, FULL, torch.bfloat16, settings, host_bytes_available=GIB // 2)
    assert int(refused.value.details["smallest_bytes"]) > 0.5 * GIB


def test_one_memory_holds_both_sides_of_a_plan() -> None:
    for gib in (3, 4, 8):
        made = plan(HD_61, FULL, torch.float32, DecodeSettings(), int(gib * GIB), one_memory=True)
        assert made.predicted_peak_bytes + made.host_bytes <= gib * GIB
    with pytest.raises(EngineError) as refused:
        plan(HD_61, FULL, torch.float32, DecodeSettings(), GIB, one_memory=True)
    smallest = int(refused.value.details["smallest_bytes"])
    assert plan(HD_61, FULL, torch.float32, DecodeSettings(), smallest, one_memory=True)


def test_long_clips_do_not_need_more_of_the_card() -> None:
    settings = DecodeSettings(DecodeMode.STRIP_MAJOR, 16, 1)
    short, long = (plan((t, 90, 160), FULL, torch.bfloat16, settings) for t in (16, 256))
    assert long.predicted_peak_bytes == short.predicted_peak_bytes


@pytest.mark.parametrize("settings", [DecodeSettings(strip_rows=0), DecodeSettings(chunk_latents=0)])
def test_settings_below_one_are_refused(settings: DecodeSettings) -> None:
    with pytest.raises(EngineError) as refused:
        plan((2, 4, 4), NARROW, torch.float32, settings)
    assert refused.value.code is ErrorCode.INVALID_SETTING


@pytest.mark.parametrize("mode", list(DecodeMode))
def test_every_mode_has_a_plan_for_the_smallest_clip(mode: DecodeMode) -> None:
    made = plan((1, 1, 1), NARROW, torch.float32, DecodeSettings(mode))
    assert (made.strips, made.chunks, made.blocks) == (1, 1, 1)
    assert made.chunk_latent_range(0) == (0, 1)


def test_steps_cover_every_latent_frame_once() -> None:
    made = plan((10, 4, 4), NARROW, torch.float32, DecodeSettings(DecodeMode.STRIP_MAJOR, 8, 4))
    ranges = [made.chunk_latent_range(chunk) for chunk in range(made.chunks)]
    assert ranges == [(0, 1), (1, 5), (5, 9), (9, 10)]
    assert made.strips * made.chunks == made.blocks == 16


LIMITS = {  # GiB on the card: bfloat16, live tensors with the decoder's weights
    (1280, 720): (VideoVaeConfig(), 0.50),
    (1920, 1088): (VideoVaeConfig(), 0.65),
    (3840, 2160): (VideoVaeConfig(), 1.1),
    (1280, 704): (VideoVae22Config(), 1.7),
}


@pytest.mark.parametrize("frames", [1, 61, 121, 1001, 10_001])
@pytest.mark.parametrize("size", LIMITS)
def test_the_card_needs_no_more_for_any_number_of_frames(size: tuple[int, int], frames: int) -> None:
    config, gib = LIMITS[size]
    shape = (config.latent_frames(frames), size[1] // config.spatial_factor, size[0] // config.spatial_factor)
    made = plan(shape, config, torch.bfloat16, DecodeSettings(budget_bytes=int(gib * GIB)))
    assert made.predicted_peak_bytes <= gib * GIB
    assert made.ratio_to_untiled == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("frames", [1, 61, 121, 1001, 10_001])
def test_caches_in_host_memory_stay_below_five_gigabytes_at_720p(frames: int) -> None:
    shape = (FULL.latent_frames(frames), 90, 160)
    latents = 4 * FULL.z_dim * shape[0] * shape[1] * shape[2]  # the job's own, whatever decodes them
    settings = DecodeSettings(budget_bytes=GIB // 2)
    made = plan(shape, FULL, torch.bfloat16, settings, host_bytes_available=latents + 5 * 10**9)
    assert made.host_bytes - latents <= 5 * 10**9
    assert made.predicted_peak_bytes <= 0.5 * GIB


def test_caches_go_to_files_where_host_memory_ends() -> None:
    settings, room = DecodeSettings(budget_bytes=GIB // 2), 300 * 2**20
    made = plan(HD_61, FULL, torch.bfloat16, settings, room, file_bytes_available=20 * GIB)
    assert made.caches is CachePlace.FILES
    assert made.host_bytes <= room
    assert made.file_bytes <= 20 * GIB
    with pytest.raises(EngineError):
        plan(HD_61, FULL, torch.bfloat16, settings, room, file_bytes_available=100 * 2**20)


def test_4k_has_no_whole_score_matrix() -> None:
    """One in float32 would be 62 GiB; queries in parts against all keys in float32 would still be 0.2 GiB of keys."""
    assert stem_live(FULL, 270, 480, 2, caches_on_card=False) < 0.5 * GIB
