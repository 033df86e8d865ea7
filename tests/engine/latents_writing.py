"""Latents as other programs save them, and ways to spoil such files; shared by the tests of latents files."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.models.video_vae import VideoVaeConfig

Write = Callable[[Path, torch.Tensor], None]


def as_safetensors(path: Path, latents: torch.Tensor, name: str = "latents") -> None:
    save_file({name: latents.contiguous()}, path)


def as_tensor(path: Path, latents: torch.Tensor) -> None:
    torch.save(latents, path)


def as_dict(path: Path, latents: torch.Tensor, name: str = "latents") -> None:
    torch.save({name: latents, "fps": 16, "prompt": "a cake"}, path)


def as_comfyui(path: Path, latents: torch.Tensor, *, is_old: bool = False) -> None:
    """By ComfyUI's SaveLatent node; older versions had no marker."""
    marker = {} if is_old else {"latent_format_version_0": torch.tensor([])}
    save_file({"latent_tensor": latents.contiguous()} | marker, path, {"prompt": "{}", "workflow": "{}"})


def smooth_clip(channels: int, frames: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Values [1, C, T, H, W] whose frames change slowly and whose channels have nothing in common, as in a video."""
    generator = torch.Generator().manual_seed(seed)
    still = torch.randn(1, channels, 1, height, width, generator=generator)
    moving = torch.randn(1, channels, frames, height, width, generator=generator).cumsum(2)
    return still + 0.1 * moving


def vae_of(channels: int) -> VideoVaeConfig:
    """A VAE of so many channels, each with a mean and a deviation of its own."""
    mean = tuple(0.3 * channel - 1 for channel in range(channels))
    return VideoVaeConfig(
        z_dim=channels, latents_mean=mean, latents_std=tuple(0.5 + 0.25 * channel for channel in range(channels))
    )


def edit_pickle(path: Path, old: bytes, new: bytes) -> None:
    """Replace `old`, which must be there once, in the pickle inside a file of `torch.save`."""
    edited = path.with_suffix(".edited")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(edited, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert content.count(old) == 1
                content = content.replace(old, new)
            target.writestr(entry.filename, content)
    edited.replace(path)


def compress(path: Path) -> None:
    """Rewrite a file of `torch.save` with compressed entries."""
    with zipfile.ZipFile(path) as source:
        entries = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in entries.items():
            target.writestr(name, content)
