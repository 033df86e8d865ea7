"""The streaming decode of the Wan 2.2 VAE against decoding whole, which the parity tests check."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import plan
from engine.errors import EngineError, ErrorCode
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import VideoVae22, VideoVae22Config
from tests.engine.decode_cases import Case, Shortage, latents_of, planned, random_cases, streamed
from tests.parity.fill import fill_parameters

SMALL = VideoVae22Config(
    dim=8, z_dim=4, num_res_blocks=1, decoder_dim=8,
    latents_mean=(0.3, -0.2, 0.1, 0.0), latents_std=(1.5, 0.8, 2.0, 1.1),
)  # fmt: skip
CASES = random_cases(30, seed=22, factor=16, patch=2)
ORDERS = (DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR)


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    network = VideoVae22(SMALL)
    fill_parameters(network)
    return network.requires_grad_(requires_grad=False)


def untiled(vae: VideoVae, latents: Tensor) -> Tensor:
    return vae.decode(latents)[0]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_any_cut_gives_the_untiled_picture(case: Case, vae: VideoVae) -> None:
    latents = latents_of(case.shape)
    assert (streamed(vae, latents, planned(case, SMALL)) - untiled(vae, latents)).abs().max() <= 1e-5


@pytest.mark.parametrize("mode", [DecodeMode.WHOLE, *ORDERS])
def test_one_strip_is_as_exact(mode: DecodeMode, vae: VideoVae) -> None:
    case = Case((3, 3, 2), DecodeSettings(mode, 48, 2))
    latents = latents_of(case.shape)
    assert (streamed(vae, latents, planned(case, SMALL)) - untiled(vae, latents)).abs().max() <= 2e-6


@pytest.mark.parametrize("mode", ORDERS)
def test_nothing_is_computed_twice(mode: DecodeMode, vae: VideoVae) -> None:
    case = Case((3, 4, 3), DecodeSettings(mode, 24, 1))
    latents, cut = latents_of(case.shape), planned(case, SMALL)
    with FlopCounterMode(display=False) as ours:
        streamed(vae, latents, cut)
    with FlopCounterMode(display=False) as whole:
        untiled(vae, latents)
    assert ours.get_total_flops() == pytest.approx(whole.get_total_flops(), rel=1e-3)
    assert cut.tflop * 1e12 == pytest.approx(ours.get_total_flops(), rel=1e-3)


@pytest.mark.parametrize("mode", ORDERS)
def test_memory_may_run_out(mode: DecodeMode, vae: VideoVae) -> None:
    case, rows = Case((3, 3, 2), DecodeSettings(mode, 36, 1)), list[int]()
    latents, shortage = latents_of(case.shape), Shortage(lambda seen: seen in (37, 61))
    picture = streamed(vae, latents, planned(case, SMALL), shortage, rows.append)
    assert len(rows) == 2
    assert all(count % 2 == 0 for count in rows)
    assert (picture - untiled(vae, latents)).abs().max() <= 1e-5


def test_a_strip_is_made_of_whole_patches() -> None:
    with pytest.raises(EngineError) as refused:
        plan((3, 3, 2), SMALL, torch.float32, DecodeSettings(DecodeMode.STRIP_MAJOR, 15))
    assert refused.value.code is ErrorCode.INVALID_SETTING
    assert refused.value.details["allowed"] == "multiples of 2"
