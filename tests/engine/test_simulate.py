"""Predicted against simulated peaks: never below, at most 5 % above, over sizes, widths, types and cuts."""

import itertools

import pytest
import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.memory.simulate import LiveStorages, simulate_decode
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from tests.engine.decode_cases import DEEP, FULL, NARROW, Case, planned

STRIPS = (DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR)
Point = tuple[VideoVaeConfig, torch.dtype, Case]


def grid(
    config: VideoVaeConfig, dtype: torch.dtype, shapes: list[tuple[int, int, int]], rows: list[int], chunks: list[int]
) -> list[Point]:
    cuts = itertools.product(shapes, STRIPS, rows, chunks)
    return [(config, dtype, Case(shape, DecodeSettings(mode, r, c))) for shape, mode, r, c in cuts]


SMALL = [
    *grid(NARROW, torch.float32, [(1, 6, 10), (2, 5, 9), (4, 5, 9)], [16, 24, 48], [1, 2]),
    *grid(DEEP, torch.bfloat16, [(3, 9, 6), (5, 9, 6)], [24, 40, 72], [1, 3]),
]
SMALL_22 = VideoVae22Config(
    dim=8, z_dim=4, num_res_blocks=1, decoder_dim=8, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4
)
WAN_22 = [
    *grid(SMALL_22, torch.float32, [(1, 4, 5), (3, 4, 5)], [16, 40], [1, 2]),
    *grid(VideoVae22Config(), torch.bfloat16, [(3, 44, 80)], [352], [1]),
    *grid(VideoVae22Config(), torch.bfloat16, [(2, 22, 40)], [64], [1]),
]
REAL = [
    *grid(FULL, torch.bfloat16, [(2, 60, 104)], [160, 480], [1]),
    *grid(FULL, torch.bfloat16, [(3, 90, 160)], [360], [1, 2]),
    *grid(FULL, torch.float32, [(2, 136, 240)], [544], [1]),
    *grid(FULL, torch.bfloat16, [(1, 90, 160)], [64], [1]),  # here the stem's attention is the dearest moment
    *grid(FULL, torch.float32, [(1, 45, 80)], [8], [1]),
]


@pytest.mark.slow
@pytest.mark.parametrize("points", [SMALL[:18], SMALL[18:36], SMALL[36:48], SMALL[48:], WAN_22, REAL])
def test_the_prediction_holds(points: list[Point]) -> None:
    off = {}
    for config, dtype, case in points:
        made = planned(case, config, dtype)
        simulated = simulate_decode(config, case.shape, dtype, made)
        card, host = made.predicted_peak_bytes / simulated.peak_bytes, made.host_bytes / simulated.host_bytes
        if not (1 <= card <= 1.05 and 1 <= host <= 1.05):
            off[f"{case} {dtype} dim {config.dim}"] = (card, host, made.predicted_peak_bytes - simulated.peak_bytes)
    assert not off


def test_there_are_at_least_sixty_points() -> None:
    assert len(SMALL) + len(WAN_22) + len(REAL) >= 60


def test_a_storage_counts_once_and_until_its_last_view_is_gone() -> None:
    with LiveStorages() as storages:
        x = torch.zeros(1000)
        view = x[10:20]
        y = x + 1
        assert storages.live["cpu"] == 8000
        del x, y
        assert storages.live["cpu"] == 4000
        del view
    assert storages.live["cpu"] == 0
    assert storages.peak["cpu"] == 8000
