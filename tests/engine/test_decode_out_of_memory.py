"""Memory runs out in the middle of a decode: at any convolution of any strip and chunk, once, often, or for good."""

import dataclasses
from functools import partial
from operator import eq
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.cut import CachePlace
from engine.decode.plan import SMALLEST_STRIP, DecodePlan
from engine.decode.recut import halved
from engine.decode.streaming import decode_blocks
from engine.models.video_vae import VideoVae
from tests.engine.decode_cases import NARROW, Case, Shortage, latents_of, network, plain, planned, streamed

SHAPE = (4, 5, 3)
ORDERS = (DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR)
EVERY = 5  # convolutions: no multiple of a step's, so that all places in a step come up


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    return network(NARROW)


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return latents_of(SHAPE)


@pytest.fixture(scope="module")
def untiled(vae: VideoVae, latents: Tensor) -> Tensor:
    return plain(vae, latents)


def cut(mode: DecodeMode, rows: int, chunk: int = 1) -> DecodePlan:
    return planned(Case(SHAPE, DecodeSettings(mode, rows, chunk)), NARROW)


def convolutions(vae: VideoVae, latents: Tensor, plan: DecodePlan) -> int:
    """How many convolutions all steps have together."""
    count = Shortage(lambda _: False)
    list(decode_blocks(vae, latents, plan, count))
    return count.seen


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, 2])
@pytest.mark.parametrize("mode", ORDERS)
def test_wherever_it_happens_the_picture_is_the_same(
    mode: DecodeMode, chunk: int, vae: VideoVae, latents: Tensor, untiled: Tensor
) -> None:
    plan = cut(mode, 24, chunk)
    for number in range(1, convolutions(vae, latents, plan) + 1, EVERY):
        rows: list[int] = []
        shortage = Shortage(partial(eq, number))
        picture = streamed(vae, latents, plan, shortage, rows.append)
        assert rows in ([12], [8]), number  # half of 24 rows, or of the 16 that are left below them
        assert (picture - untiled).abs().max() <= 1e-5, number


@pytest.mark.parametrize("mode", [*ORDERS, DecodeMode.WHOLE])
def test_it_may_happen_again_and_again(mode: DecodeMode, vae: VideoVae, latents: Tensor, untiled: Tensor) -> None:
    rows: list[int] = []
    shortage = Shortage(lambda seen: seen % 19 == 0 and rows[-1:] != [SMALLEST_STRIP - 3])
    picture = streamed(vae, latents, cut(mode, 40), shortage, rows.append)
    assert rows == [20, 10, SMALLEST_STRIP - 3]
    assert (picture - untiled).abs().max() <= 1e-5


@pytest.mark.parametrize("mode", ORDERS)
def test_finished_rows_are_not_computed_again(mode: DecodeMode, vae: VideoVae, latents: Tensor) -> None:
    plan = cut(mode, 20)
    with FlopCounterMode(display=False) as undisturbed:
        streamed(vae, latents, plan)
    half_way = convolutions(vae, latents, plan) // 2
    with FlopCounterMode(display=False) as disturbed:
        streamed(vae, latents, plan, Shortage(lambda seen: seen == half_way))
    a_step = undisturbed.get_total_flops() / (plan.strips * plan.chunks)
    assert undisturbed.get_total_flops() <= disturbed.get_total_flops() <= undisturbed.get_total_flops() + 2 * a_step


@pytest.mark.parametrize("mode", ORDERS)
def test_the_smallest_strips_are_the_end_of_it(mode: DecodeMode, vae: VideoVae, latents: Tensor) -> None:
    rows: list[int] = []
    half_way = convolutions(vae, latents, cut(mode, 40)) // 2
    with pytest.raises(torch.OutOfMemoryError):
        streamed(vae, latents, cut(mode, 40), Shortage(lambda seen: seen > half_way), rows.append)
    assert rows == [20, 10, SMALLEST_STRIP - 3]


@pytest.mark.parametrize("mode", ORDERS)
def test_no_cut_makes_the_stem_smaller(mode: DecodeMode, vae: VideoVae, latents: Tensor) -> None:
    rows: list[int] = []
    with pytest.raises(torch.OutOfMemoryError):
        streamed(vae, latents, cut(mode, 40), Shortage(lambda seen: seen == 7, in_stem=True), rows.append)
    assert not rows


def test_other_errors_are_nobodys_shortage(vae: VideoVae, latents: Tensor) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    rows: list[int] = []
    with pytest.raises(RuntimeError, match="illegal"):
        streamed(vae, latents, cut(DecodeMode.FRAME_MAJOR, 24), fail, rows.append)
    assert not rows


@pytest.mark.parametrize("mode", ORDERS)
def test_caches_in_files_are_as_good_and_leave_nothing(
    mode: DecodeMode, vae: VideoVae, latents: Tensor, untiled: Tensor, tmp_path: Path
) -> None:
    plan = dataclasses.replace(cut(mode, 16), caches=CachePlace.FILES)
    picture = streamed(vae, latents, plan, cache_folder=tmp_path)
    assert (picture - untiled).abs().max() <= 1e-5
    assert not list(tmp_path.iterdir())


def test_a_strip_is_halved_down_to_the_smallest() -> None:
    assert halved((24, 41)) == [(24, 33), (33, 41)]
    assert halved((0, SMALLEST_STRIP)) == [(0, SMALLEST_STRIP)]
