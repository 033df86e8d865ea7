"""Whole models for the roads that the embedded one has not: its own networks made wider, and small random ones.

What is added is random and small, so that it is seen in the result and does not break it; or zero, so that the result
is the embedded model's own to the bit.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.commands import EMBEDDED_MODEL
from engine.models.image_encoder import ImageEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.models.video_vae22 import VideoVae22, VideoVae22Config
from engine.weights.expected import ImageEncoderSizes, image_encoder_shapes
from tests.engine.tiny_model import TRANSFORMER, build_tiny_model

TRANSFORMER_FILE, VAE_FILE = "diffusion_pytorch_model.safetensors", "Wan2.1_VAE.safetensors"
NETWORKS = ("models_t5_umt5.safetensors", VAE_FILE, "spiece.model", "Wan2.1_VAE.json", "latent_rgb.json")
CLIP = ImageEncoderConfig(image_size=28, patch_size=14, dim=80, mlp_dim=96, num_heads=1, num_layers=2)
MASK_CHANNELS = 4  # a frame each of a latent frame
VAE_22 = VideoVae22Config(dim=8, decoder_dim=16, dim_mult=(1, 2, 2, 2), num_res_blocks=1)


def embedded_config() -> TransformerConfig:
    stated: dict[str, Any] = json.loads((EMBEDDED_MODEL / "config.json").read_text("utf-8"))
    stated["patch_size"] = tuple(stated["patch_size"])
    return TransformerConfig(**{name: value for name, value in stated.items() if name != "_class_name"})


def noise_like(shape: tuple[int, ...], scale: float, seed: int) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_pictures(config: TransformerConfig, images: int = 0) -> TransformerConfig:
    """`config` of a model that takes pictures as channels, and attends to the features of so many `images`."""
    channels = config.out_dim + MASK_CHANNELS + config.out_dim
    dim, positions = (CLIP.dim if images else 0), (2 * CLIP.tokens if images > 1 else 0)
    return dataclasses.replace(config, model_type="i2v", in_dim=channels, image_dim=dim, image_positions=positions)


def weights_for(config: TransformerConfig, scale: float, seed: int = 5) -> dict[str, Tensor]:
    """The embedded transformer's weights in a network of `config`; what it has not is random, times `scale`."""
    own = load_file(EMBEDDED_MODEL / TRANSFORMER_FILE)
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in WanTransformer(config).state_dict().items()}
    made = {}
    for number, (name, shape) in enumerate(shapes.items()):
        added = noise_like(shape, scale, seed + number)
        if "norm" in name and name not in own:
            added += 1
        if name == "patch_embedding.weight":
            added[:, : config.out_dim] = own[name].float()
            made[name] = added
        else:
            made[name] = own.get(name, added)
    return {name: value.contiguous() for name, value in made.items()}


def other_weights(weights: dict[str, Tensor], scale: float = 0.15, seed: int = 9) -> dict[str, Tensor]:
    """Every matrix of `weights` changed by a share of itself: another expert, visibly."""
    return {
        name: (value + noise_like(tuple(value.shape), scale * float(value.float().std()), seed + i)).to(value.dtype)
        if value.ndim > 1
        else value
        for i, (name, value) in enumerate(weights.items())
    }


def write_transformer(folder: Path, config: TransformerConfig, weights: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / TRANSFORMER_FILE)
    (folder / "config.json").write_text(json.dumps({"_class_name": "WanModel", **stated(config)}), "utf-8")
    return folder / TRANSFORMER_FILE


def stated(config: TransformerConfig) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(config).items() if value != 0}


def build_embedded(folder: Path, config: TransformerConfig, scale: float = 0.02, place: str = ".") -> Path:
    """The embedded model in `folder`, its transformer as one of `config`, in the folder `place` of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NETWORKS:
        shutil.copy(EMBEDDED_MODEL / name, folder)
    write_transformer(folder / place, config, weights_for(config, scale))
    return folder


def build_experts(folder: Path, config: TransformerConfig) -> tuple[Path, Path]:
    """The embedded model as two experts in `high_noise_model` and `low_noise_model`; the folder, the second's file."""
    build_embedded(folder, config, place="high_noise_model")
    return folder, write_transformer(folder / "low_noise_model", config, other_weights(weights_for(config, 0.02)))


def write_clip(file: Path) -> Path:
    """The half of a CLIP that sees, of random weights."""
    sizes = ImageEncoderSizes(CLIP.dim, CLIP.mlp_dim, CLIP.num_layers + 1, CLIP.tokens, CLIP.patch_size, 64)
    made = {
        name: 0.05 * noise_like(shape, 1, number) + ("norm" in name)
        for number, (name, shape) in enumerate(image_encoder_shapes(sizes).items())
    }
    save_file(made, file)
    return file


def build_ti2v_22(folder: Path) -> Path:
    """A model like TI2V-5B: 48 latent channels, the VAE of Wan 2.2, a time for every latent frame; all random."""
    config = dataclasses.replace(TRANSFORMER, in_dim=48, out_dim=48, model_type="ti2v")
    build_tiny_model(folder, config)
    for name in (VAE_FILE, "Wan2.1_VAE.json", "latent_rgb.json"):
        (folder / name).unlink()
    torch.manual_seed(3)
    state = VideoVae22(VAE_22).state_dict()
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "Wan2.2_VAE.safetensors")
    return folder
