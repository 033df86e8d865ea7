"""Latents that other programs saved become the model's, whatever the layout, the number format and the space."""

import dataclasses
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clip import open_model
from engine.commands import EMBEDDED_MODEL, DecodeLatents, GenerateVideo, LatentsLayout, LatentsSpace
from engine.decode.latents_file import read_latents
from engine.errors import EngineError, ErrorCode
from engine.events import JobFinished
from engine.output.job_folder import JobFolder
from engine.weights.load import load_vae
from resources.mini.world import random_scene, render, split_captions
from tests.engine.job_run import Run, assert_failed
from tests.engine.latents_writing import (
    Write,
    as_comfyui,
    as_dict,
    as_safetensors,
    as_tensor,
    smooth_clip,
    vae_of,
)
from tests.engine.tiny_model import VAE

WRITERS: dict[str, Write] = {
    "safetensors": as_safetensors,
    "other name": partial(as_safetensors, name="z0"),
    "tensor": as_tensor,
    "dict": as_dict,
    "other key": partial(as_dict, name="latent"),
}
CHANNELS, FRAMES = LatentsLayout.CHANNELS_FIRST, LatentsLayout.FRAMES_FIRST


def refused(path: Path, channels: int = 8, layout: LatentsLayout = LatentsLayout.AUTOMATIC) -> str:
    """The reason why `path` is not taken."""
    with pytest.raises(EngineError) as caught:
        read_latents(path, vae_of(channels), layout)
    assert caught.value.code is ErrorCode.LATENTS_INVALID
    assert caught.value.details["file"] == str(path)
    return str(caught.value.details["reason"])


@settings(deadline=None)
@given(
    st.sampled_from(sorted(WRITERS)), st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), st.booleans(),
    st.booleans(), st.sampled_from([(4, 1), (4, 7), (16, 3), (16, 16), (3, 3), (48, 2)]),
    st.integers(2, 6), st.integers(2, 6),
)  # fmt: skip
def test_every_layout_and_number_format_comes_back(
    writer: str, dtype: torch.dtype, has_batch: bool, is_frames_first: bool, size: tuple[int, int], h: int, w: int
) -> None:
    clip = smooth_clip(*size, h, w).to(dtype)
    stored = clip.transpose(1, 2) if is_frames_first else clip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "latents"  # what a file is, its first bytes say
        WRITERS[writer](path, stored if has_batch else stored[0])
        read = read_latents(path, vae_of(size[0]))
    assert read.dtype is torch.float32
    assert read.is_contiguous()
    assert torch.equal(read, clip.float())


def test_what_is_no_memory_of_its_own_comes_back_too(tmp_path: Path) -> None:
    """A slice of a longer clip and a transposed view keep their strides in a file of torch."""
    clip = smooth_clip(4, 9, 6, 5)
    for number, view in enumerate((clip[:, :, 3:5], clip.transpose(3, 4), torch.nn.Parameter(clip))):
        as_tensor(path := tmp_path / f"{number}.pt", view)
        assert torch.equal(read_latents(path, vae_of(4)), view)


def test_comfyui_files_are_normalised(tmp_path: Path) -> None:
    """Model space is (x - mean) / std in every channel, here taken apart channel by channel."""
    vae, stored = vae_of(4), smooth_clip(4, 3, 6, 5)
    as_comfyui(path := tmp_path / "ComfyUI_00001_.latent", stored)
    read = read_latents(path, vae)
    for channel in range(4):
        expected = (stored[0, channel].double() - vae.latents_mean[channel]) / vae.latents_std[channel]
        assert torch.allclose(read[0, channel].double(), expected, atol=1e-6)
    as_comfyui(path, stored * 0.18215, is_old=True)
    assert torch.allclose(read_latents(path, vae), read, atol=1e-5)
    as_comfyui(path, stored.bfloat16())
    assert torch.allclose(read_latents(path, vae), read, atol=0.05)


def test_comfyui_files_have_their_channels_first_even_where_values_say_otherwise(tmp_path: Path) -> None:
    clip = smooth_clip(8, 8, 6, 5)
    as_comfyui(path := tmp_path / "a.latent", clip.transpose(1, 2))
    assert torch.allclose(read_latents(path, vae_of(8), space=LatentsSpace.MODEL), clip.transpose(1, 2))
    assert torch.allclose(read_latents(path, vae_of(8), FRAMES, LatentsSpace.MODEL), clip)


@pytest.mark.parametrize(
    ("write", "is_vae_space"),
    [
        (as_tensor, False), (as_dict, False), (partial(as_dict, name="samples"), True), (as_safetensors, False),
        (partial(as_safetensors, name="samples"), True), (partial(as_dict, name="latent_tensor"), True),
        (partial(as_dict, name="latent"), False), (partial(as_dict, name="z"), False),
    ],
)  # fmt: skip
def test_names_tell_the_space_and_the_option_overrules_them(tmp_path: Path, write: Write, is_vae_space: bool) -> None:
    vae, clip = vae_of(4), smooth_clip(4, 3, 6, 5)
    mean, std = (torch.tensor(each).view(1, 4, 1, 1, 1) for each in (vae.latents_mean, vae.latents_std))
    spaces = {LatentsSpace.MODEL: clip, LatentsSpace.VAE: (clip - mean) / std}
    own = LatentsSpace.VAE if is_vae_space else LatentsSpace.MODEL
    write(path := tmp_path / "a.pth", clip)
    for space, expected in (spaces | {LatentsSpace.AUTOMATIC: spaces[own]}).items():
        assert torch.allclose(read_latents(path, vae, space=space), expected, atol=1e-6)


@pytest.fixture(scope="module")
def encoded() -> torch.Tensor:
    """Three real clips of the embedded VAE, [3, 8, 8, h, w]: as many frames as channels, moving as fast as they do."""
    model = open_model(EMBEDDED_MODEL)
    vae = load_vae(model.files, torch.device("cpu"), torch.float32)
    bouncing = [caption for caption in split_captions()[0] if caption.motion == "bouncing"]
    scenes = [random_scene(caption, np.random.default_rng(5)) for caption in bouncing[:3]]
    videos = torch.stack([torch.from_numpy(render(scene))[:29, ::4, ::4] for scene in scenes]) * 2 - 1
    return vae.encode(videos.permute(0, 4, 1, 2, 3))


def test_as_many_frames_as_channels_are_told_apart(tmp_path: Path, encoded: torch.Tensor) -> None:
    vae = dataclasses.replace(vae_of(8), latents_mean=(0.0,) * 8, latents_std=(1.0,) * 8)
    for clip in encoded:
        for number, stored in enumerate((clip, clip.transpose(0, 1))):
            as_tensor(path := tmp_path / f"{number}.pth", stored.bfloat16())
            assert torch.equal(read_latents(path, vae)[0], clip.bfloat16().float())


def test_values_that_do_not_tell_are_refused_until_somebody_does(tmp_path: Path) -> None:
    noise = torch.randn(1, 8, 8, 12, 10, generator=torch.Generator().manual_seed(0))
    for number, clip in enumerate((noise, torch.zeros_like(noise), torch.full_like(noise, 3e38))):
        as_tensor(path := tmp_path / f"{number}.pth", clip)
        assert "8 frames from its 8 channels; say it with --latents-layout" in refused(path)
        assert torch.equal(read_latents(path, vae_of(8), CHANNELS), clip)
        assert torch.equal(read_latents(path, vae_of(8), FRAMES), clip.transpose(1, 2))


def test_our_own_noise_is_known_by_its_format(tmp_path: Path) -> None:
    noise = torch.randn(1, 8, 8, 12, 10)
    path = JobFolder.create(tmp_path, GenerateVideo("x", Path("o.mp4"))).save_latents(noise)
    assert torch.equal(read_latents(path, vae_of(8)), noise)


def test_a_layout_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    as_tensor(path := tmp_path / "a.pth", torch.zeros(1, 3, 16, 6, 5))
    assert "has 3 channels, the model's VAE takes 16" in refused(path, 16, layout=CHANNELS)
    assert read_latents(path, vae_of(16)).shape == (1, 16, 3, 6, 5)


def test_other_tensors_in_the_file_are_left_alone(tmp_path: Path) -> None:
    clip = smooth_clip(4, 3, 6, 5)
    beside = {"noise_mask": torch.zeros(1, 1, 6, 5), "batch_index": torch.arange(3), "sigmas": torch.ones(21)}
    torch.save({"samples": clip} | beside, path := tmp_path / "a.pt")
    assert read_latents(path, vae_of(4), space=LatentsSpace.MODEL).equal(clip)
    torch.save({"first": clip, "second": clip}, path)
    assert "several tensors that could be meant ('first' [1, 4, 3, 6, 5], 'second'" in refused(path)


@pytest.mark.parametrize("write", [as_comfyui, as_tensor, partial(as_safetensors, name="x")])
def test_a_job_makes_the_same_picture_of_other_programs_latents(
    tiny_model: Path, tmp_path: Path, write: Callable[[Path, torch.Tensor], None]
) -> None:
    clip = smooth_clip(8, 3, 6, 8)
    own = JobFolder.create(tmp_path / "own", GenerateVideo("x", Path("o.mp4"), tiny_model)).save_latents(clip)
    path = tmp_path / "foreign"
    mean, std = VAE.latents_mean[0], VAE.latents_std[0]  # the same in all channels of this model
    write(path, clip * std + mean if write is as_comfyui else clip.transpose(1, 2))
    pictures = []
    for latents in (own, path):
        run = Run(DecodeLatents(latents, tmp_path / "out.mp4", tiny_model), tmp_path / "jobs")
        assert isinstance(run(), JobFinished)
        pictures.append(run.canvas.pixels.astype(np.int16))
    assert pictures[0].std() > 1
    assert np.abs(pictures[0] - pictures[1]).max() <= (1 if write is as_comfyui else 0)


def test_latents_of_another_model_ask_for_that_model(tmp_path: Path) -> None:
    for shape, channels in (((1, 16, 3, 6, 5), 16), ((1, 3, 48, 6, 5), 48)):
        as_tensor(path := tmp_path / "a.pth", torch.zeros(shape))
        end = assert_failed(Run(DecodeLatents(path, tmp_path / "o.mp4"), tmp_path)(), ErrorCode.LATENTS_INVALID)
        expected = f"has {channels} channels, the model's VAE takes 8; a model with a {channels}-channel VAE must be"
        assert expected in str(end.details["reason"])
        assert "--model DIR" in str(end.details["reason"])
