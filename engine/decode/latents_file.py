"""Latents from files: our own, ComfyUI's `.latent`, any `.safetensors` and `torch.save`; lives on the engine thread.

What a file does not say is decided by these rules, each of which the command can overrule:

- The tensor is the only one of 4 or 5 dimensions; among several, the only one with a name of `NAMES`.
- Our own files and ComfyUI's are [B, C, T, H, W]. In others the channels are on the axis as long as the VAE's channels
  are many. Where two axes are, the frames are on the one along which neighbours are alike: neighbouring frames show
  nearly the same picture, neighbouring channels have nothing in common. Where that does not tell, the file is refused.
- Under ComfyUI's names (`latent_tensor`, `samples`) values are in VAE space, under all others as the model samples
  them: pipelines hand out latents before mean and deviation are put back.
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from engine.commands import LatentsLayout, LatentsSpace
from engine.decode.tensor_file import StoredTensor, TensorFile, invalid, open_tensors
from engine.models.video_vae import VideoVaeConfig
from engine.output.job_folder import FORMAT

COMFYUI_NAME = "latent_tensor"
COMFYUI_VERSION = "latent_format_version_0"  # an empty tensor; files without it are older and scaled
OLD_COMFYUI_SCALE = 1 / 0.18215
VAE_SPACE_NAMES = (COMFYUI_NAME, "samples")
NAMES = ("latents", "latent", *VAE_SPACE_NAMES)
CHANNELS_OF_WAN = (16, 48)
CLEARLY = 2.0  # clips reach 3 to 70 here; noise stays below in all but pictures of a few values
NAMES_SHOWN = 5


def read_latents(
    path: Path,
    vae: VideoVaeConfig,
    layout: LatentsLayout = LatentsLayout.AUTOMATIC,
    space: LatentsSpace = LatentsSpace.AUTOMATIC,
) -> Tensor:
    """Normalised latents [1, z, T, h, w], float32, for `vae`, of the one clip in `path`.

    Model space = (VAE space - mean) / deviation, per channel. Shapes and sizes are checked before a value is read.
    Raises LATENTS_INVALID when the file is missing, damaged or no latents, holds several clips or several tensors that
    could be meant, does not fit `vae` or the free memory, or has a value that is not finite.
    """
    with open_tensors(path) as file:
        name = _name_of_latents(path, file)
        _check_size(path, file.tensors[name])
        layouts = _possible_layouts(path, file.tensors[name].shape[-4:-2], vae.z_dim, _layout(file, name, layout))
        values = _read(path, file.tensors[name])
    if len(layouts) > 1:
        layouts = [_layout_of_values(path, values)]
    if layouts == [LatentsLayout.FRAMES_FIRST]:
        values = values.transpose(0, 1).contiguous()  # z T h w
    values.mul_(_scale(file, name))
    if _space(name, space) is LatentsSpace.VAE:
        values.sub_(_per_channel(vae.latents_mean)).div_(_per_channel(vae.latents_std))
    _check_finite(path, values)
    return values[None]  # 1 z T h w


def _name_of_latents(path: Path, file: TensorFile) -> str:
    found = [name for name, each in file.tensors.items() if each.dtype is not None and len(each.shape) in (4, 5)]
    if len(found) > 1:
        known = [name for name in found if name in NAMES]
        found = known if len(known) == 1 else found
    if not found:
        wanted = "holds no tensor of 4 or 5 dimensions in float32, float16 or bfloat16"
        raise invalid(path, f"{wanted}, only: {_listed(file.tensors) or 'nothing'}")
    if len(found) > 1:
        candidates = _listed({name: file.tensors[name] for name in found})
        raise invalid(path, f"holds several tensors that could be meant ({candidates}); save one alone")
    return found[0]


def _listed(tensors: dict[str, StoredTensor]) -> str:
    # As Python writes names: one from a file may have characters that cannot be printed.
    shown = [f"{name[:40]!r} {list(each.shape)}" for name, each in list(tensors.items())[:NAMES_SHOWN]]
    return ", ".join(shown) + (", ..." if len(tensors) > NAMES_SHOWN else "")


def _check_size(path: Path, stored: StoredTensor) -> None:
    """Raises LATENTS_INVALID unless the tensor is one clip with values, all of which are in the file."""
    shape, count = list(stored.shape), math.prod(stored.shape)
    if not count:
        raise invalid(path, f"has no values: its shape is {shape}")
    if len(shape) == 5 and shape[0] > 1:
        raise invalid(path, f"holds {shape[0]} clips (its shape is {shape}); save each into its own file")
    if stored.dtype is None or count * stored.dtype.itemsize > path.stat().st_size:
        raise invalid(path, f"claims the shape {shape}, for which it is too short")


def _layout(file: TensorFile, name: str, asked: LatentsLayout) -> LatentsLayout:
    """What is asked for, else what the format says."""
    is_known = file.metadata.get("format") == FORMAT or (file.is_safetensors and name == COMFYUI_NAME)
    return LatentsLayout.CHANNELS_FIRST if asked is LatentsLayout.AUTOMATIC and is_known else asked


def _possible_layouts(path: Path, axes: tuple[int, ...], channels: int, layout: LatentsLayout) -> list[LatentsLayout]:
    """The layouts in which a clip with these first two `axes` has as many `channels`; raises LATENTS_INVALID."""
    by_axis = dict(zip((LatentsLayout.CHANNELS_FIRST, LatentsLayout.FRAMES_FIRST), axes, strict=True))
    if layout is not LatentsLayout.AUTOMATIC:
        by_axis = {layout: by_axis[layout]}
    possible = [each for each, size in by_axis.items() if size == channels]
    if not possible:
        sizes = list(by_axis.values())
        found = next((size for size in sizes if size in CHANNELS_OF_WAN), sizes[0])
        wanted = f"a model with a {found}-channel VAE must be named (--model DIR)"
        raise invalid(path, f"has {found} channels, the model's VAE takes {channels}; {wanted}")
    return possible


def _layout_of_values(path: Path, values: Tensor) -> LatentsLayout:
    """The layout of a clip of as many frames as channels, [z, z, h, w], by which neighbours are alike."""
    first, second = (values.diff(dim=axis).square_().mean().item() for axis in (0, 1))
    if first > CLEARLY * second:
        return LatentsLayout.CHANNELS_FIRST
    if second > CLEARLY * first:
        return LatentsLayout.FRAMES_FIRST
    size = len(values)
    raise invalid(path, f"does not tell its {size} frames from its {size} channels; say it with --latents-layout")


def _read(path: Path, stored: StoredTensor) -> Tensor:
    """The clip's values in float32, without its batch axis, in memory of their own: a file may change."""
    values = torch.empty(stored.shape[-4:]).copy_(stored.read().reshape(stored.shape[-4:]))
    _check_finite(path, values)
    return values


def _check_finite(path: Path, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise invalid(path, "holds values that are not finite")


def _space(name: str, asked: LatentsSpace) -> LatentsSpace:
    """What is asked for, else what the tensor's name says."""
    if asked is not LatentsSpace.AUTOMATIC:
        return asked
    return LatentsSpace.VAE if name in VAE_SPACE_NAMES else LatentsSpace.MODEL


def _scale(file: TensorFile, name: str) -> float:
    is_old = file.is_safetensors and name == COMFYUI_NAME and COMFYUI_VERSION not in file.tensors
    return OLD_COMFYUI_SCALE if is_old else 1.0


def _per_channel(statistic: tuple[float, ...]) -> Tensor:
    return torch.tensor(statistic).view(-1, 1, 1, 1)  # z 1 1 1
