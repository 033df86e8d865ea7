"""The VAE of Wan 2.2 against recorded outputs of the official code, diffusers, and its shortcuts' formulas."""

import dataclasses
import itertools

import pytest
import torch
from diffusers import AutoencoderKLWan
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.models.video_vae22 import Factors, VideoVae22, VideoVae22Config, avg_down, dup_up, patchify, unpatchify
from tests.parity.fill import fill_parameters, filled, uniform
from tests.parity.official import VECTORS, assert_close, assert_recorded, renamed

TINY = VideoVae22Config(
    dim=8,
    decoder_dim=8,
    z_dim=4,
    latents_mean=tuple(uniform("mean", 4)),
    latents_std=tuple(1 + 0.2 * uniform("std", 4)),
)
PLAIN = dataclasses.replace(TINY, decoder_dim=12, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)
# Narrower again at the coarsest level (a last shortcut of real means), frames halved at both ends of the encoder.
UNEVEN = dataclasses.replace(
    PLAIN, dim=6, decoder_dim=4, dim_mult=(1, 2, 4, 2), num_res_blocks=1, temporal_downsample=(True, False, True)
)
# Three stages, the two that halve frames next to the pixels.
SHORT = dataclasses.replace(PLAIN, dim_mult=(2, 4, 4), temporal_downsample=(True, True))


def network(config: VideoVae22Config) -> VideoVae22:
    vae = VideoVae22(config)
    fill_parameters(vae)
    return vae


def diffusers_twin(vae: VideoVae22, config: VideoVae22Config) -> AutoencoderKLWan:
    peer = AutoencoderKLWan(
        base_dim=config.dim, decoder_base_dim=config.decoder_dim, z_dim=config.z_dim, dim_mult=list(config.dim_mult),
        num_res_blocks=config.num_res_blocks, temperal_downsample=list(config.temporal_downsample), is_residual=True,
        in_channels=12, out_channels=12, patch_size=2, scale_factor_spatial=config.spatial_factor,
    )  # fmt: skip
    peer.load_state_dict(renamed(vae.state_dict(), "video_vae22"), strict=True)
    return peer.eval()


@torch.no_grad()
def test_official_encoding() -> None:
    recorded = VECTORS["vae22"]["encode_normalised"]
    assert_recorded(network(TINY).encode(filled("video", 1, 3, 9, 32, 32)), recorded)


@torch.no_grad()
def test_official_decoding() -> None:
    recorded = VECTORS["vae22"]["decode_unclamped"]
    assert_recorded(network(TINY).decode(filled("z", 1, 4, 3, 2, 2)), recorded)


@torch.no_grad()
@pytest.mark.parametrize("config", [PLAIN, UNEVEN, SHORT], ids=["plain", "uneven", "short"])
@pytest.mark.parametrize("frames", [1, 5, 8, 13])  # of eight, diffusers too leaves the last three out
def test_encodes_like_diffusers(config: VideoVae22Config, frames: int) -> None:
    torch.manual_seed(frames)
    vae = network(config)
    height, width = 2 * config.spatial_factor, 3 * config.spatial_factor
    video = torch.rand(1, 3, frames, height, width) * 2 - 1
    peers = diffusers_twin(vae, config).encode(video).latent_dist.mode()
    assert peers.shape == (1, config.z_dim, config.latent_frames(frames), 2, 3)
    assert_close(vae.encode(video), peers, 1e-5)


@torch.no_grad()
@pytest.mark.parametrize("config", [PLAIN, UNEVEN, SHORT], ids=["plain", "uneven", "short"])
@pytest.mark.parametrize("latent_shape", [(1, 2, 3), (2, 3, 1), (4, 1, 2)])
def test_decodes_like_diffusers(config: VideoVae22Config, latent_shape: tuple[int, int, int]) -> None:
    torch.manual_seed(sum(latent_shape))
    vae = network(config)
    latents = torch.randn(2, config.z_dim, *latent_shape)
    peers = diffusers_twin(vae, config).decode(latents, return_dict=False)[0]
    assert peers.shape[2:] == (config.frames(latent_shape[0]), *(config.spatial_factor * n for n in latent_shape[1:]))
    assert_close(vae.decode(latents).clamp(-1, 1), peers, 1e-5)


def test_a_patch_holds_its_columns_one_after_the_other() -> None:
    x = filled("pixels", 2, 3, 2, 4, 6)
    patches = patchify(x, 2)
    assert patches.shape == (2, 12, 2, 2, 3)
    for c, column, row in itertools.product(range(3), range(2), range(2)):
        assert torch.equal(patches[:, c * 4 + column * 2 + row], x[:, c, :, row::2, column::2])
    assert torch.equal(unpatchify(patches, 2), x)


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """`coarse` and `fine` channels, and the chunks of coarse frames after the first, which is one frame."""

    coarse: int
    fine: int
    factors: Factors
    chunks: list[int]


@st.composite
def shortcuts(draw: st.DrawFn) -> Shortcut:
    factors = Factors(draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 2])))
    sizes = st.integers(1, 4)
    coarse, fine = draw(sizes), draw(sizes)
    if fine * factors.volume % coarse:
        fine *= coarse
    return Shortcut(coarse, fine, factors, draw(st.lists(st.integers(1, 3), max_size=3)))


def places(fine: int, factors: Factors) -> list[tuple[int, int, int, int]]:
    """Channel, frame, row and column in the cell, in the order of the official virtual channels."""
    ranges = (range(fine), range(factors.time), range(factors.space), range(factors.space))
    return list(itertools.product(*ranges))


def means_of_chunk(x: Tensor, case: Shortcut) -> Tensor:
    """AvgDown3D of one chunk: a mean over the virtual channels of each output channel, one by one."""
    ft, fs = case.factors
    missing = (ft - x.shape[2] % ft) % ft
    x = torch.cat([x.new_zeros(*x.shape[:2], missing, *x.shape[3:]), x], dim=2)
    virtual = [x[:, c, dt::ft, dh::fs, dw::fs] for c, dt, dh, dw in places(case.fine, case.factors)]
    group = len(virtual) // case.coarse
    means = [sum(virtual[o * group : (o + 1) * group], torch.zeros(())) / group for o in range(case.coarse)]
    return torch.stack(means, dim=1)


def copies_of_chunk(x: Tensor, case: Shortcut, *, first: bool) -> Tensor:
    """DupUp3D of one chunk: every place of the fine grid is given its input channel, one by one."""
    ft, fs = case.factors
    b, c, t, h, w = x.shape
    out = x.new_full((b, case.fine, t * ft, h * fs, w * fs), torch.nan)
    repeats = case.fine * case.factors.volume // c
    for k, (o, dt, dh, dw) in enumerate(places(case.fine, case.factors)):
        out[:, o, dt::ft, dh::fs, dw::fs] = x[:, k // repeats]
    return out[:, :, ft - 1 :] if first else out


@given(case=shortcuts())
def test_means_of_a_whole_sequence_are_those_of_its_chunks(case: Shortcut) -> None:
    lengths = [1, *(case.factors.time * n for n in case.chunks)]
    x = filled("x", 2, case.fine, sum(lengths), 2 * case.factors.space, case.factors.space)
    chunks = [means_of_chunk(part, case) for part in x.split(lengths, dim=2)]
    assert_close(avg_down(x, case.coarse, case.factors), torch.cat(chunks, dim=2), 1e-6)


@given(case=shortcuts())
def test_copies_of_a_whole_sequence_are_those_of_its_chunks(case: Shortcut) -> None:
    lengths = [1, *case.chunks]
    x = filled("x", 2, case.coarse, sum(lengths), 2, 1)
    parts = x.split(lengths, dim=2)
    chunks = [copies_of_chunk(part, case, first=i == 0) for i, part in enumerate(parts)]
    assert torch.equal(dup_up(x, case.fine, case.factors, first_chunk=True), torch.cat(chunks, dim=2))
    for part, chunk in zip(parts[1:], chunks[1:], strict=True):
        assert torch.equal(dup_up(part, case.fine, case.factors, first_chunk=False), chunk)


@pytest.mark.parametrize(
    ("dim_mult", "reason"), [((3, 3, 6, 6), "down 1 to 3"), ((1, 1, 2, 4), "down 2 to 4"), ((1, 1, 8, 8), "up 8 to 1")]
)
def test_widths_without_a_fair_share_are_refused(dim_mult: tuple[int, ...], reason: str) -> None:
    with pytest.raises(ValueError, match=f"widths that do not divide: {reason}$"):
        dataclasses.replace(PLAIN, dim_mult=dim_mult)
