"""Small networks and latents for the decoder's tests, and the random cases they run on."""

import dataclasses
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import DecodePlan, plan
from engine.decode.streaming import decode_blocks
from engine.models.video_vae import VideoVae, VideoVaeConfig
from tests.engine.plain_decode import PlainDecoder
from tests.parity.fill import fill_parameters

Z = 4
NARROW = VideoVaeConfig(
    dim=8, z_dim=Z, num_res_blocks=1, latents_mean=(0.3, -0.2, 0.1, 0.0), latents_std=(1.5, 0.8, 2.0, 1.1)
)
DEEP = dataclasses.replace(NARROW, num_res_blocks=2)
FULL = VideoVaeConfig()


@dataclass(frozen=True)
class Case:
    """Latents of shape (T, h, w) and how to cut their decode."""

    shape: tuple[int, int, int]
    settings: DecodeSettings

    def __str__(self) -> str:
        s = self.settings
        return f"{'x'.join(map(str, self.shape))}-{s.mode}-{s.strip_rows}rows-{s.chunk_latents}latents"


def random_cases(count: int, seed: int, factor: int = 8, patch: int = 1) -> list[Case]:
    """Sizes that strips mostly do not divide; every third case has strips of 8 rows, every fifth one frame.

    `factor` is that of the VAE in space; rows are multiples of `patch`.
    """
    dice = random.Random(seed)
    cases = []
    for i in range(count):
        shape = (1 if i % 5 == 4 else dice.randint(2, 5), dice.randint(2, 9), dice.randint(2, 7))
        rows = 8 if i % 3 == 0 else dice.randint(3, factor * shape[1] + 4) // patch * patch
        mode = dice.choice((DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR))
        cases.append(Case(shape, DecodeSettings(mode, rows, dice.randint(1, 4))))
    return cases


def network(config: VideoVaeConfig, dtype: torch.dtype = torch.float32) -> VideoVae:
    """Reproducible weights, no gradients."""
    vae = VideoVae(config)
    fill_parameters(vae)
    return vae.to(dtype).requires_grad_(requires_grad=False)


def latents_of(shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Normalised latents [1, z, T, h, w]."""
    return torch.randn(1, Z, *shape, generator=torch.Generator().manual_seed(seed))


def plain(vae: VideoVae, latents: Tensor) -> Tensor:
    """The independent decode of normalised latents, [3, F, H, W]."""
    config = vae.config
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    temporal, stages = config.temporal_downsample[::-1], len(config.dim_mult)
    decoder = PlainDecoder(vae.state_dict(), temporal, config.num_res_blocks, stages)
    return decoder.decode((latents * std + mean).to(vae.conv2.weight.dtype))[0]


def planned(case: Case, config: VideoVaeConfig, dtype: torch.dtype = torch.float32) -> DecodePlan:
    return plan(case.shape, config, dtype, case.settings)


def streamed(
    vae: VideoVae,
    latents: Tensor,
    cut: DecodePlan,
    on_layer: Callable[[], None] | None = None,
    on_recut: Callable[[int], None] | None = None,
    cache_folder: Path | None = None,
) -> Tensor:
    """All blocks put together, [3, F, H, W]; rows that no block covers are NaN."""
    frames = vae.config.frames(latents.shape[2])
    factor = vae.config.spatial_factor
    picture = torch.full((3, frames, latents.shape[3] * factor, latents.shape[4] * factor), float("nan"))
    for block in decode_blocks(vae, latents, cut, on_layer, on_recut=on_recut, cache_folder=cache_folder):
        _, count, rows, _ = block.rgb.shape
        place = picture[:, block.frame_start : block.frame_start + count, block.row_start : block.row_start + rows]
        assert place.isnan().all(), "a row was decoded twice"
        place.copy_(block.rgb)
    return picture


class Shortage:
    """Runs out of memory at those convolutions of the steps, or of the stem, whose number is `at`."""

    def __init__(self, at: Callable[[int], bool], *, in_stem: bool = False) -> None:
        self.at = at
        self.in_stem = in_stem
        self.seen = 0

    def __call__(self) -> None:
        if self.in_stem is not any(Path(frame.filename).name == "stem.py" for frame in traceback.extract_stack()):
            return
        self.seen += 1
        if self.at(self.seen):
            raise torch.OutOfMemoryError("CUDA out of memory")
