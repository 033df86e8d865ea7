"""Writes the trained networks as a model folder, laid out like the official checkpoints, and reads them back."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.models.float32_islands import keeps_float32
from engine.models.video_vae import VideoVae
from resources.mini.clips import STATISTICS, encode_scene, trained_vae
from resources.mini.train_dit import TRANSFORMER, TextToVideo
from resources.mini.world import random_scene, render, split_captions

CONFIG_NAMES = (
    "model_type", "dim", "ffn_dim", "freq_dim", "num_heads", "num_layers", "in_dim", "out_dim", "text_len", "text_dim",
    "patch_size", "eps",
)  # fmt: skip


def export(work: Path, out: Path) -> None:
    """Everything that the engine needs from the training files in `work`, into `out`."""
    model = TextToVideo()
    model.load_state_dict(torch.load(work / "dit.pt", weights_only=True))
    save_file(
        {name: stored(name, tensor) for name, tensor in model.transformer.state_dict().items()},
        out / "diffusion_pytorch_model.safetensors",
    )
    save_file(
        {name: tensor.contiguous() for name, tensor in model.text_encoder.state_dict().items()},
        out / "models_t5_umt5.safetensors",
    )
    vae = trained_vae(work / "vae.pt", work / "clips" / STATISTICS)
    save_file({name: tensor.contiguous() for name, tensor in vae.state_dict().items()}, out / "Wan2.1_VAE.safetensors")
    (out / "spiece.model").write_bytes((work / "spiece.model").read_bytes())
    config = {"_class_name": "WanModel"} | {name: getattr(TRANSFORMER, name) for name in CONFIG_NAMES}
    write_json(out / "config.json", config)
    write_json(out / "Wan2.1_VAE.json", dataclasses.asdict(vae.config))
    write_json(out / "latent_rgb.json", fit_latent_rgb(vae))


def take_back(out: Path, work: Path) -> None:
    """The opposite of `export`: the training files that the model in `out` was written from, into `work`."""
    model, vae = TextToVideo(), "Wan2.1_VAE"
    model.transformer.load_state_dict(load_file(out / "diffusion_pytorch_model.safetensors"))
    model.text_encoder.load_state_dict(load_file(out / "models_t5_umt5.safetensors"))
    torch.save(model.state_dict(), work / "dit.pt")
    torch.save(load_file(out / f"{vae}.safetensors"), work / "vae.pt")
    (work / "spiece.model").write_bytes((out / "spiece.model").read_bytes())
    known = json.loads((out / f"{vae}.json").read_text("utf-8"))
    (work / "clips").mkdir(exist_ok=True)
    write_json(work / "clips" / STATISTICS, {"mean": known["latents_mean"], "std": known["latents_std"]})


def stored(name: str, tensor: Tensor) -> Tensor:
    """The tensor as the checkpoint keeps it: matrices in bfloat16, the float32 islands in float32."""
    return tensor.float().contiguous() if keeps_float32(name) else tensor.bfloat16().contiguous()


def write_json(file: Path, content: object) -> None:
    """Readable JSON with a final line end."""
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def fit_latent_rgb(vae: VideoVae, scenes: int = 24) -> dict[str, object]:
    """Least-squares `factors` [z, 3] and `bias` [3] from normalised latents to the mean colours (-1..1) behind them."""
    rng, (captions, _) = np.random.default_rng(0), split_captions()
    known, wanted = [], []
    for i in rng.choice(len(captions), scenes, replace=False):
        scene = random_scene(captions[i], rng)
        latents = encode_scene(vae, scene)  # [z, T, h, w]
        known.append(latents.flatten(1).T.numpy())
        wanted.append(latent_colours(render(scene), latents.shape[1]).reshape(-1, 3))
    inputs = np.concatenate(known)
    inputs = np.concatenate([inputs, np.ones_like(inputs[:, :1])], axis=1)
    solution = np.linalg.lstsq(inputs, np.concatenate(wanted) * 2 - 1, rcond=None)[0].round(4).tolist()
    return {"factors": solution[:-1], "bias": solution[-1]}


def latent_colours(video: np.ndarray, latent_frames: int) -> np.ndarray:
    """Mean colours [T', h, w, 3] of the blocks of pixels [T, H, W, 3] that the latent positions stand for."""
    groups = [video[:1], *np.split(video[1:], latent_frames - 1)]
    frames = np.stack([group.mean(axis=0) for group in groups])  # [T', H, W, 3]
    t, h, w, c = frames.shape
    return frames.reshape(t, h // 8, 8, w // 8, 8, c).mean(axis=(2, 4))
