"""Small networks and videos for the encoder's tests, and the random cases they run on."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.encode.plan import EncodePlan, plan_encode
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config, vae_of
from tests.engine.decode_cases import NARROW
from tests.parity.fill import fill_parameters

SMALL_22 = VideoVae22Config(
    dim=8, z_dim=4, num_res_blocks=1, decoder_dim=8,
    latents_mean=(0.3, -0.2, 0.1, 0.0), latents_std=(1.5, 0.8, 2.0, 1.1),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A video of `frames` frames that `config` makes h x w latent pixels of, and how to cut its encode."""

    config: VideoVaeConfig
    frames: int
    latent_size: tuple[int, int]
    strip_rows: int
    chunk_latents: int

    def __str__(self) -> str:
        name = "wan22" if isinstance(self.config, VideoVae22Config) else "wan21"
        h, w = self.latent_size
        return f"{name}-{self.frames}x{h}x{w}-{self.strip_rows}rows-{self.chunk_latents}latents"

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of pixels."""
        h, w = self.latent_size
        return h * self.config.spatial_factor, w * self.config.spatial_factor

    def video(self) -> Tensor:
        """[1, 3, T, H, W] in -1..1."""
        generator = torch.Generator().manual_seed(self.frames)
        return torch.rand(1, 3, self.frames, *self.size, generator=generator) * 2 - 1

    def plan(self, dtype: torch.dtype = torch.float32) -> EncodePlan:
        rows, chunk = self.strip_rows, self.chunk_latents
        return plan_encode(self.frames, *self.size, self.config, dtype, strip_rows=rows, chunk_latents=chunk)


def random_cases(config: VideoVaeConfig, count: int, seed: int) -> list[Case]:
    """Every third case has strips of one latent row; the others mostly do not divide the picture."""
    dice, factor, patch = random.Random(seed), config.spatial_factor, config.patch_size
    cases = []
    for i in range(count):
        height, width = dice.randint(1, 5), dice.randint(1, 3)
        rows = factor if i % 3 == 0 else dice.randint(patch, factor * height + 4) // patch * patch
        cases.append(Case(config, dice.choice((1, 5, 9, 17)), (height, width), rows, dice.randint(1, 4)))
    return cases


def network(config: VideoVaeConfig, dtype: torch.dtype = torch.float32) -> VideoVae:
    """Reproducible weights, no gradients."""
    vae = vae_of(config)
    fill_parameters(vae)
    return vae.to(dtype).requires_grad_(requires_grad=False)


CASES = [*random_cases(NARROW, 18, seed=21), *random_cases(SMALL_22, 14, seed=22)]
