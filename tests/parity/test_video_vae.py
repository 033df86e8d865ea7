"""The VAE against recorded outputs of the official code and against diffusers."""

import dataclasses

import pytest
import torch
from diffusers import AutoencoderKLWan

from engine.models.video_vae import VideoVae, VideoVaeConfig
from tests.parity.fill import fill_parameters, filled, uniform
from tests.parity.official import VECTORS, assert_close, assert_recorded, renamed

TINY = VideoVaeConfig(
    dim=8,
    z_dim=4,
    latents_mean=tuple(uniform("mean", 4)),
    latents_std=tuple(1 + 0.2 * uniform("std", 4)),
)
PLAIN = dataclasses.replace(TINY, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)
UNEVEN = dataclasses.replace(PLAIN, dim=4, dim_mult=(1, 3, 2, 4), temporal_downsample=(True, False, True))


def diffusers_twin(vae: VideoVae) -> AutoencoderKLWan:
    config = vae.config
    peer = AutoencoderKLWan(
        base_dim=config.dim, z_dim=config.z_dim, dim_mult=list(config.dim_mult), num_res_blocks=config.num_res_blocks,
        temperal_downsample=list(config.temporal_downsample),
    )  # fmt: skip
    peer.load_state_dict(renamed(vae.state_dict(), "video_vae"), strict=True)
    return peer.eval()


@torch.no_grad()
def test_official_encoding() -> None:
    vae = VideoVae(TINY)
    fill_parameters(vae)
    assert_recorded(vae.encode(filled("video", 1, 3, 9, 16, 16)), VECTORS["vae21"]["encode_normalised"])


@torch.no_grad()
def test_official_decoding() -> None:
    vae = VideoVae(TINY)
    fill_parameters(vae)
    assert_recorded(vae.decode(filled("z", 1, 4, 3, 2, 2)), VECTORS["vae21"]["decode_unclamped"])


@torch.no_grad()
@pytest.mark.parametrize("config", [PLAIN, UNEVEN])
@pytest.mark.parametrize("latent_shape", [(1, 2, 3), (2, 1, 2), (4, 3, 1)])
def test_same_as_diffusers(config: VideoVaeConfig, latent_shape: tuple[int, int, int]) -> None:
    torch.manual_seed(sum(latent_shape))
    vae = VideoVae(config)
    fill_parameters(vae)
    peer = diffusers_twin(vae)
    frames, height, width = config.frames(latent_shape[0]), 8 * latent_shape[1], 8 * latent_shape[2]
    video = torch.rand(1, 3, frames, height, width) * 2 - 1
    assert_close(vae.encode(video), peer.encode(video).latent_dist.mode(), 1e-5)
    latents = torch.randn(1, config.z_dim, *latent_shape)
    assert_close(vae.decode(latents).clamp(-1, 1), peer.decode(latents, return_dict=False)[0], 1e-5)
