"""Sizes of the networks in a model folder: from `config.json`, or from the shapes of the stored tensors."""

import contextlib
import dataclasses
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.models.text_encoder import TextEncoderConfig
from engine.models.transformer import TransformerConfig
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from engine.weights.detect import ModelFiles
from engine.weights.header import Header, invalid, read_header

# What every published config.json states; the text's width and the patch are the same in all of them.
STATED = ("dim", "eps", "ffn_dim", "freq_dim", "in_dim", "model_type", "num_heads", "num_layers", "out_dim", "text_len")
STATISTICS = ("latents_mean", "latents_std")

# A tensor that the VAE of Wan 2.2 has and that of 2.1 has not: its stages are modules of their own.
VAE_22_MARK = "decoder.upsamples.0.upsamples.0.residual.2.weight"
ENCODER_LAYER = re.compile(r"encoder\.downsamples\.\d+\.(downsamples\.\d+\.)?")


def read_headers(files: tuple[Path, ...]) -> Header:
    """All tensors of a network stored in `files`. Raises MODEL_INVALID."""
    header: Header = {}
    for file in files:
        header |= read_header(file)
    return header


def transformer_config(files: ModelFiles) -> TransformerConfig:
    """Sizes stated by `config.json`. Raises MODEL_INVALID for one that is no text-to-video transformer."""
    file = files.transformer_config
    stated = _read_json(file)
    missing = [name for name in STATED if name not in stated]
    if missing:
        raise invalid(file, f"missing: {', '.join(missing)}")
    names = {field.name for field in dataclasses.fields(TransformerConfig)}
    config = TransformerConfig(**_frozen({name: value for name, value in stated.items() if name in names}))
    faults = _transformer_faults(config)
    if faults:
        raise invalid(file, "; ".join(faults))
    return config


def _transformer_faults(config: TransformerConfig) -> list[str]:
    sizes = {name: getattr(config, name) for name in (*STATED, "text_dim") if name not in ("eps", "model_type")}
    faults = [f"{name} is {value!r}" for name, value in sizes.items() if type(value) is not int or value < 1]
    if not _is_patch(config.patch_size):
        faults.append(f"patch_size is {config.patch_size!r}")
    if not isinstance(config.eps, float):
        faults.append(f"eps is {config.eps!r}")
    if config.model_type != "t2v":
        faults.append(f"model_type is {config.model_type!r}, not 't2v'")
    if not faults and config.in_dim != config.out_dim:
        faults.append(f"in_dim {config.in_dim} is not out_dim {config.out_dim}: not a text-to-video model")
    if not faults and config.dim % (2 * config.num_heads):
        faults.append(f"dim {config.dim} is not a multiple of twice num_heads {config.num_heads}")
    return faults


def _is_patch(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 3 and all(type(size) is int and size > 0 for size in value)


def text_encoder_config(files: ModelFiles) -> TextEncoderConfig:
    """Sizes from the shapes of the stored tensors. Raises MODEL_INVALID."""
    with _shapes_of(files.text_encoder) as header:
        vocab_size, dim = header["token_embedding.weight"].shape
        num_buckets, num_heads = header["blocks.0.pos_embedding.embedding.weight"].shape
        return TextEncoderConfig(
            vocab_size=vocab_size,
            dim=dim,
            dim_attn=header["blocks.0.attn.q.weight"].shape[0],
            dim_ffn=header["blocks.0.ffn.fc1.weight"].shape[0],
            num_heads=num_heads,
            num_layers=1 + max(int(name.split(".")[1]) for name in header if name.startswith("blocks.")),
            num_buckets=num_buckets,
        )


def vae_config(files: ModelFiles) -> VideoVaeConfig:
    """Sizes from the shapes of the stored tensors; latent statistics from the JSON beside them, else Wan's own.

    A `VideoVae22Config` where the tensors are those of Wan 2.2. Raises MODEL_INVALID, also where the statistics are
    not known.
    """
    with _shapes_of(files.vae) as header:
        config = _stored_vae(header)
    stated = {} if files.vae_config is None else _frozen(_read_json(files.vae_config))
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


def _stored_vae(header: Header) -> VideoVaeConfig:
    """The sizes of the VAE of either kind. Raises KeyError, ValueError and ZeroDivisionError for another network."""
    sizes = _vae_sizes(header)
    if VAE_22_MARK not in header:
        return VideoVaeConfig(**sizes)
    channels = header["encoder.conv1.weight"].shape[1]
    patch_size = math.isqrt(channels // 3)
    if patch_size < 1 or 3 * patch_size**2 != channels:
        raise ValueError(f"{channels} channels are no square patch of pixels")
    decoder_dim = header["decoder.conv1.weight"].shape[0] // sizes["dim_mult"][-1]
    return VideoVae22Config(**sizes, decoder_dim=decoder_dim, patch_size=patch_size)


def _vae_sizes(header: Header) -> dict[str, Any]:
    """The encoder's layers in order: residual blocks, and a resampler at the end of every stage but the last."""
    dim = header["encoder.conv1.weight"].shape[0]
    dim_mult: list[int] = []
    blocks, temporal = [0], []
    for prefix in _encoder_layers(header):
        if f"{prefix}resample.1.weight" in header:
            temporal.append(f"{prefix}time_conv.weight" in header)
            blocks.append(0)
        else:
            width = header[f"{prefix}residual.6.weight"].shape[0]
            dim_mult[len(temporal) :] = [width // dim]
            blocks[-1] += 1
    return {
        "dim": dim,
        "z_dim": header["conv2.weight"].shape[0],
        "dim_mult": tuple(dim_mult),
        "num_res_blocks": blocks[0],
        "temporal_downsample": tuple(temporal),
    }


def _encoder_layers(header: Header) -> list[str]:
    """What the names of each layer's tensors begin with, stages (where they are named) before layers in them."""
    prefixes = {match[0] for name in header if (match := ENCODER_LAYER.match(name))}
    if not prefixes:
        raise KeyError("encoder.downsamples")
    return sorted(prefixes, key=lambda prefix: [int(number) for number in re.findall(r"\d+", prefix)])


@contextlib.contextmanager
def _shapes_of(files: tuple[Path, ...]) -> Iterator[Header]:
    """The tensors of `files`; what goes wrong while sizes are taken from them becomes MODEL_INVALID."""
    try:
        yield read_headers(files)
    except KeyError as error:
        raise invalid(files[0], f"missing: {error.args[0]}") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise invalid(files[0], f"unexpected shapes: {error}") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise invalid(file, str(error)) from error
    if not isinstance(content, dict):
        raise invalid(file, "not a JSON object")
    return content


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    """`fields` with lists as tuples, as the configurations hold them."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
