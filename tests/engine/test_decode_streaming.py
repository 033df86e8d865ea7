"""The streaming decode against an untiled one that shares no code with it."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from engine.cancel import Cancelled
from engine.commands import DecodeMode, DecodeSettings
from engine.decode import attention
from engine.decode.streaming import decode_blocks
from engine.models.video_vae import VideoVae
from tests.engine.decode_cases import DEEP, NARROW, Case, latents_of, network, plain, planned, random_cases, streamed

CASES = random_cases(36, seed=20)
WHOLE = [
    Case(shape, DecodeSettings(DecodeMode.WHOLE, None, chunk))
    for shape in ((5, 6, 5), (1, 9, 4), (3, 3, 10))
    for chunk in (1, 2)
]
ONE_STRIP = [Case((3, 5, 4), DecodeSettings(mode, 40, 1)) for mode in (DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR)]


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    return network(NARROW)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_cut_gives_the_untiled_picture(case: Case, vae: VideoVae) -> None:
    latents = latents_of(case.shape)
    difference = (streamed(vae, latents, planned(case, NARROW)) - plain(vae, latents)).abs().max()
    assert difference <= 1e-5


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("case", WHOLE + ONE_STRIP, ids=str)
def test_one_strip_is_equal_to_the_bit(case: Case, vae: VideoVae) -> None:
    latents = latents_of(case.shape)
    assert torch.equal(streamed(vae, latents, planned(case, NARROW)), plain(vae, latents))


@pytest.mark.parametrize("mode", [DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR])
def test_more_blocks_a_stage_make_a_longer_lag_and_no_seam(mode: DecodeMode) -> None:
    vae, case = network(DEEP), Case((3, 5, 3), DecodeSettings(mode, 8, 1))
    latents = latents_of(case.shape)
    assert (streamed(vae, latents, planned(case, DEEP)) - plain(vae, latents)).abs().max() <= 1e-5


def test_queries_in_parts_change_nothing(vae: VideoVae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MAX_SCORES", 200)  # 5 of 40 queries at a time
    latents = latents_of((2, 8, 5))
    cut = planned(Case((2, 8, 5), DecodeSettings(DecodeMode.WHOLE)), NARROW)
    assert (streamed(vae, latents, cut) - plain(vae, latents)).abs().max() <= 1e-5


@pytest.mark.parametrize("mode", [DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR, DecodeMode.WHOLE])
def test_bfloat16_is_cut_as_exactly_as_it_rounds(mode: DecodeMode) -> None:
    half, case = network(NARROW, torch.bfloat16), Case((3, 5, 6), DecodeSettings(mode, 16, 1))
    latents = latents_of(case.shape)
    exact = plain(network(NARROW), latents)
    rounding = (plain(half, latents).float() - exact).abs().mean()
    assert (streamed(half, latents, planned(case, NARROW, torch.bfloat16)) - exact).abs().mean() <= 1.1 * rounding


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[4], WHOLE[0]], ids=str)
def test_nothing_is_computed_twice(case: Case, vae: VideoVae) -> None:
    latents = latents_of(case.shape)
    cut = planned(case, NARROW)
    with FlopCounterMode(display=False) as ours:
        streamed(vae, latents, cut)
    with FlopCounterMode(display=False) as untiled:
        plain(vae, latents)
    assert ours.get_total_flops() == pytest.approx(untiled.get_total_flops(), rel=1e-3)
    assert cut.tflop * 1e12 == pytest.approx(ours.get_total_flops(), rel=1e-3)
    assert cut.ratio_to_untiled == pytest.approx(1, rel=1e-3)


def test_blocks_come_in_the_order_of_the_plan(vae: VideoVae) -> None:
    latents = latents_of((3, 4, 3))
    corners = {}
    for mode in (DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR):
        cut = planned(Case((3, 4, 3), DecodeSettings(mode, 16, 1)), NARROW)
        corners[mode] = [(block.frame_start, block.row_start) for block in decode_blocks(vae, latents, cut)]
    assert corners[DecodeMode.STRIP_MAJOR] == [(0, 0), (1, 0), (5, 0), (0, 16), (1, 16), (5, 16)]
    assert corners[DecodeMode.FRAME_MAJOR] == [(0, 0), (0, 16), (1, 0), (1, 16), (5, 0), (5, 16)]


def test_it_can_stop_before_any_convolution(vae: VideoVae) -> None:
    latents, seen = latents_of((2, 3, 3)), 0
    cut = planned(Case((2, 3, 3), DecodeSettings(DecodeMode.STRIP_MAJOR, 8, 1)), NARROW)

    def count() -> None:
        nonlocal seen
        seen += 1

    list(decode_blocks(vae, latents, cut, count))
    steps = cut.strips * cut.chunks
    assert seen > steps * 10

    def stop() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        next(decode_blocks(vae, latents, cut, stop))


def test_the_callers_grad_mode_stays_its_own(vae: VideoVae) -> None:
    cut = planned(Case((2, 2, 2), DecodeSettings(DecodeMode.WHOLE)), NARROW)
    for block in decode_blocks(vae, latents_of((2, 2, 2)), cut):
        assert torch.is_grad_enabled()
        assert not block.rgb.requires_grad
