"""The training set of the transformer: scenes of the training captions, encoded by the trained VAE."""

import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.models.video_vae import VideoVae
from resources.mini.train_vae import vae_config
from resources.mini.world import Caption, Scene, random_scene, render, split_captions

log = logging.getLogger("resources.mini")

CLIPS_A_FILE = 32
STATISTICS = "statistics.json"


@dataclass(frozen=True, slots=True)
class Clips:
    """Latents [N, z, T, h, w] bfloat16, zero mean and unit deviation in every channel, and a caption each."""

    latents: Tensor
    captions: list[Caption]

    @staticmethod
    def load(folder: Path) -> "Clips":
        """Everything that is in `folder` so far."""
        parts = [torch.load(file, weights_only=True) for file in sorted(folder.glob("*.pt"))]
        captions = [Caption(*words) for part in parts for words in json.loads(part["captions"])]
        return Clips(torch.cat([part["latents"] for part in parts]), captions)


def trained_vae(weights: Path, statistics: Path | None = None) -> VideoVae:
    """The VAE of `train_vae`; with `statistics` its latents are normalised."""
    known = json.loads(statistics.read_text()) if statistics else {}
    vae = VideoVae(vae_config(*(tuple(known[key]) for key in ("mean", "std") if known)))
    vae.load_state_dict(torch.load(weights, weights_only=True))
    return vae.eval().requires_grad_(False)


def encode_scene(vae: VideoVae, scene: Scene) -> Tensor:
    """Latents [z, T, h, w] of the whole clip of `scene`, float32 whatever the VAE's dtype."""
    video = torch.from_numpy(render(scene)).permute(3, 0, 1, 2)[None] * 2 - 1
    video = video.to(vae.conv1.weight.dtype, memory_format=torch.channels_last_3d)
    return vae.encode(video)[0].float()


def measure_statistics(weights: Path, out: Path, seed: int) -> None:
    """Write mean and deviation of every latent channel over some training scenes to `out`."""
    rng, (captions, _) = np.random.default_rng(seed), split_captions()
    vae = trained_vae(weights)
    chosen = rng.choice(len(captions), 24, replace=False)
    latents = torch.stack([encode_scene(vae, random_scene(captions[i], rng)) for i in chosen])
    std, mean = torch.std_mean(latents, dim=(0, 2, 3, 4))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        json.dumps({"mean": [round(m, 4) for m in mean.tolist()], "std": [round(s, 4) for s in std.tolist()]})
    )


def encode_clips(rank: int, ranks: int, rounds: int, weights: Path, folder: Path, seed: int) -> None:
    """Encode `rounds` scenes of every training caption into files in `folder`, one process's share of them.

    Every file is an even sample of the world, so training can begin on the first of them.
    """
    vae = trained_vae(weights, folder / STATISTICS).bfloat16()  # twice as fast, and 1 % off
    captions, _ = split_captions()
    order = np.random.default_rng(seed).permutation(np.tile(np.arange(len(captions)), rounds))
    rng = np.random.default_rng([seed, rank])
    groups = np.array_split(order, max(1, len(order) // CLIPS_A_FILE))
    for number, group in list(enumerate(groups))[rank::ranks]:
        if (folder / f"{number:04}.pt").exists():
            continue
        chosen = [captions[i] for i in group]
        latents = torch.stack([encode_scene(vae, random_scene(caption, rng)) for caption in chosen]).bfloat16()
        words = json.dumps([dataclasses.astuple(caption) for caption in chosen])
        partial = folder / f"{number:04}.part"
        torch.save({"latents": latents, "captions": words}, partial)
        partial.rename(partial.with_suffix(".pt"))
        log.info("%d of %d clip files", number + 1, len(groups))
