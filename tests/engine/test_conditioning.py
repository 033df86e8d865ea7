"""What a sample is given beside its noise, against the official way of writing it down."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine.models.transformer import TransformerConfig, WanTransformer
from engine.sampling.conditioning import (
    NOTHING_GIVEN,
    Conditioning,
    given_mask,
    network_input,
    picture_channels,
    started,
    times_of,
    with_known,
)
from tests.parity.fill import fill_parameters


def official_mask(frames: int, rows: int, columns: int, *, last: bool) -> Tensor:
    mask = torch.ones(1, frames, rows, columns)
    mask[:, 1 : -1 if last else None] = 0
    mask = torch.concat([torch.repeat_interleave(mask[:, 0:1], repeats=4, dim=1), mask[:, 1:]], dim=1)
    return mask.view(1, mask.shape[1] // 4, 4, rows, columns).transpose(1, 2)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("frames", [5, 9, 81])
def test_the_mask_is_the_official_one(frames: int, last: bool) -> None:
    mask = given_mask(1, (1 + (frames - 1) // 4, 3, 2), 4, has_last=last)
    assert torch.equal(mask, official_mask(frames, 3, 2, last=last))


@given(st.integers(1, 8), st.integers(0, 29), st.booleans(), st.sampled_from([2, 4]))
def test_the_mask_says_of_every_frame_whether_it_is_given(latents: int, known: int, last: bool, factor: int) -> None:
    frames = factor * (latents - 1) + 1
    mask = given_mask(known, (latents, 1, 2), factor, has_last=last)[0, :, :, 0, 1]
    assert mask.shape == (factor, latents)
    for frame in range(frames):
        wanted = float(frame < known or (last and frame == frames - 1))
        places = [(c, 0) for c in range(factor)] if frame == 0 else [((frame - 1) % factor, 1 + (frame - 1) // factor)]
        assert all(mask[place] == wanted for place in places)


def test_channels_follow_the_noise_and_the_mask_comes_first() -> None:
    x, latents = torch.randn(2, 16, 3, 4, 5), torch.randn(1, 16, 3, 4, 5)
    mask = given_mask(1, (3, 4, 5), 4, has_last=False)
    made = network_input(x, Conditioning(channels=picture_channels(mask, latents)))
    assert made.shape == (2, 36, 3, 4, 5)
    assert torch.equal(made[:, :16], x)
    assert torch.equal(made[1, 16:20], mask[0])
    assert torch.equal(made[0, 20:], latents[0])
    assert network_input(x, NOTHING_GIVEN) is x


@pytest.mark.parametrize("known", [1, 2])
def test_known_frames_have_the_time_of_clean_ones_and_stay(known: int) -> None:
    x, z = torch.randn(2, 8, 4, 2, 2), torch.randn(1, 8, known, 2, 2)
    given_frames = Conditioning(known=z)
    mask = torch.ones(4)
    mask[:known] = 0
    assert torch.equal(times_of(torch.tensor([700.0, 3.0]), given_frames, 4), torch.tensor([[700.0], [3.0]]) * mask)
    kept = with_known(x, given_frames)
    keep = mask[None, None, :, None, None]
    assert torch.equal(kept[:, :, known:], x[:, :, known:])
    padded = torch.nn.functional.pad(z, (0, 0, 0, 0, 0, 4 - known))
    assert torch.allclose(kept, (1 - keep) * padded + keep * x)  # as officially
    time = torch.tensor([5.0])
    assert times_of(time, NOTHING_GIVEN, 4) is time
    assert with_known(x, NOTHING_GIVEN) is x


def test_the_transformer_takes_a_time_for_each_latent_frame() -> None:
    config = TransformerConfig(
        dim=32, ffn_dim=48, freq_dim=16, num_heads=2, num_layers=2, in_dim=4, out_dim=4, text_len=4, text_dim=8
    )
    network = WanTransformer(config)
    fill_parameters(network)
    x, text = torch.randn(1, 4, 3, 4, 6), torch.randn(1, 4, 8)
    conditioning = Conditioning(known=torch.randn(1, 4, 1, 4, 6))
    tokens = torch.tensor([[0.0] * 6 + [412.0] * 12])  # the official [B, L] of a first frame without noise
    with torch.no_grad():
        ours = network(with_known(x, conditioning), times_of(torch.tensor([412.0]), conditioning, 3), text)
        official = network(with_known(x, conditioning), tokens, text)
    assert (ours - official).abs().max() < 1e-5


def test_a_clip_is_noised_up_to_the_level() -> None:
    noise, clip = torch.randn(1, 4, 3, 2, 2), torch.randn(1, 4, 3, 2, 2)
    assert torch.allclose(started(noise, 0.25, Conditioning(start=clip)), 0.75 * clip + 0.25 * noise)
    assert torch.equal(started(noise, 1.0, Conditioning(start=clip)), noise)
    assert torch.equal(started(noise, 0.9, NOTHING_GIVEN), noise)
    z = torch.randn(1, 4, 1, 2, 2)
    assert torch.equal(started(noise, 0.5, Conditioning(known=z, start=clip))[:, :, :1], z)


def test_everything_moves_together() -> None:
    moved = Conditioning(known=torch.zeros(1), image=torch.zeros(2)).to(torch.device("meta"))
    assert moved.known is not None
    assert moved.image is not None
    assert moved.known.is_meta
    assert moved.image.is_meta
    assert moved.channels is None
