"""Sizes of the networks of a model: from the shapes of the stored tensors, and what JSON files add to them."""

import contextlib
import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.models.image_encoder import ImageEncoderConfig
from engine.models.text_encoder import TextEncoderConfig
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from engine.weights.detect import ModelFiles, VaeFiles
from engine.weights.expected import Shapes
from engine.weights.expected_vae import VaeSizes, vae_sizes
from engine.weights.families import Role
from engine.weights.header import invalid
from engine.weights.identify import Description
from engine.weights.sizes import image_encoder_sizes, text_encoder_sizes
from engine.weights.whole import describe

STATISTICS = ("latents_mean", "latents_std")
CLIP_HEAD_DIM = 80  # of every published CLIP that Wan uses; the number of heads is stored nowhere


def shapes_of(description: Description) -> Shapes:
    """Shapes of the values of all parameters, by official name."""
    return {name: source.shape for name, source in description.sources.items()}


def text_encoder_config(files: ModelFiles) -> TextEncoderConfig:
    """Sizes from the shapes of the stored tensors. Raises MODEL_INVALID."""
    sizes = dataclasses.asdict(text_encoder_sizes(shapes_of(describe(files.text_encoder, Role.TEXT_ENCODER))))
    return TextEncoderConfig(**sizes)


def image_encoder_config(files: tuple[Path, ...]) -> ImageEncoderConfig:
    """Sizes from the shapes of the stored tensors. Raises MODEL_INVALID."""
    with _sizes_of(files[0]):
        sizes = image_encoder_sizes(shapes_of(describe(files, Role.IMAGE_ENCODER)))
        return ImageEncoderConfig(
            image_size=sizes.patch_size * math.isqrt(sizes.tokens - 1),
            patch_size=sizes.patch_size,
            dim=sizes.dim,
            mlp_dim=sizes.dim_ffn,
            num_heads=max(1, sizes.dim // CLIP_HEAD_DIM),
            num_layers=sizes.num_layers - 1,  # the last one that is stored is not run
        )


def vae_config(files: VaeFiles) -> VideoVaeConfig:
    """Sizes from the shapes of the stored tensors; latent statistics from the JSON beside them, else Wan's own.

    A `VideoVae22Config` where the tensors are those of Wan 2.2. Raises MODEL_INVALID, also where the statistics are
    not known.
    """
    description = describe(files.vae, Role.VAE)
    with _sizes_of(files.vae[0]):
        config = _stored_vae(vae_sizes(shapes_of(description)))
    stated = {} if files.vae_config is None else frozen(read_json(files.vae_config))
    source = files.vae_config or files.vae[0]
    unknown = set(stated) - {field.name for field in dataclasses.fields(config)}
    if unknown:
        raise invalid(source, f"unknown: {', '.join(sorted(unknown))}")
    statistics = {name: stated.pop(name) for name in STATISTICS if name in stated}
    contradicted = [name for name, value in stated.items() if getattr(config, name) != value]
    if contradicted:
        raise invalid(source, f"other than in {files.vae[0].name}: {', '.join(contradicted)}")
    config = dataclasses.replace(config, **statistics)
    for name in STATISTICS:
        if not _is_statistic(getattr(config, name), config.z_dim):
            raise invalid(source, f"{name} is not {config.z_dim} numbers")
    return config


def _is_statistic(values: object, channels: int) -> bool:
    return isinstance(values, tuple) and len(values) == channels and all(isinstance(v, (int, float)) for v in values)


def _stored_vae(sizes: VaeSizes) -> VideoVaeConfig:
    """The configuration of a VAE of either kind. Raises ValueError for another network."""
    shared = {name: getattr(sizes, name) for name in ("dim", "z_dim", "dim_mult", "num_res_blocks")}
    shared["temporal_downsample"] = sizes.temporal_downsample
    if not sizes.staged:
        return VideoVaeConfig(**shared)
    patch_size = math.isqrt(sizes.picture_channels // 3)
    if patch_size < 1 or 3 * patch_size**2 != sizes.picture_channels:
        raise ValueError(f"{sizes.picture_channels} channels are no square patch of pixels")
    return VideoVae22Config(**shared, decoder_dim=sizes.decoder_dim, patch_size=patch_size)


@contextlib.contextmanager
def _sizes_of(file: Path) -> Iterator[None]:
    """What goes wrong while sizes are made a configuration becomes MODEL_INVALID of `file`."""
    try:
        yield
    except (ValueError, ZeroDivisionError) as error:
        raise invalid(file, f"unexpected shapes: {error}") from error


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in `file`. Raises MODEL_INVALID."""
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise invalid(file, str(error)) from error
    if not isinstance(content, dict):
        raise invalid(file, "not a JSON object")
    return content


def frozen(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with lists as tuples, as the configurations hold them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
