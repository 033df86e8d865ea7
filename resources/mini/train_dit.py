"""Trains the embedded model's transformer and text encoder together, on the latents of the trained VAE."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.models.rope import rope_table
from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import TransformerConfig, WanTransformer
from resources.mini.clips import CLIPS_A_FILE, Clips
from resources.mini.train_vae import vae_config
from resources.mini.training import Optimizer, agreed
from resources.mini.world import CLIP_FRAMES, Caption, motion_wording, wording

log = logging.getLogger("resources.mini")

UNPROMPTED_SHARE = 0.1  # of the captions are replaced by "", which is what guidance leads away from
# Beside a picture so many prompts are nothing but the motion: where the words tell the shape, the network does not
# learn to read it off the picture.
MOTION_ONLY_SHARE = 0.5
# How many of the clip's first latent frames are given, and how often: none is text to video, one a picture to begin
# with, more the end of a clip to go on with.
GIVEN_FRAMES = (0, 1, 2, 3, 4)
GIVEN_SHARES = (0.5, 0.35, 0.05, 0.05, 0.05)
# What moves where is decided while a thing as large as this world's still drowns in noise, above 0.95: a fifth of all
# levels must lie there, and words are learned.
NOISE_SHIFT = 5.0
MUON_RATE = 0.02
ADAM_RATE = 1e-3
AVERAGED_STEPS = 300  # the kept weights are an average over about so many last steps

VOCABULARY = 768
LATENT_FRAMES = vae_config().latent_frames(CLIP_FRAMES)

TRANSFORMER = TransformerConfig(
    model_type="ti2v", dim=192, ffn_dim=768, num_heads=3, num_layers=6, in_dim=8, out_dim=8, text_len=32, text_dim=128,
    patch_size=(1, 4, 4),
)  # fmt: skip
TEXT_ENCODER = TextEncoderConfig(vocab_size=VOCABULARY, dim=128, dim_attn=128, dim_ffn=256, num_heads=4, num_layers=2)


@dataclass(frozen=True, slots=True)
class Course:
    """How fast, and on what.

    phases: until which share of the time, how many clips a process and step, and how many of their latent frames.
    rate: of the rates of both optimizers, at the peak.
    """

    phases: tuple[tuple[float, int, int], ...]
    rate: float

    def sizes(self, share: float) -> tuple[int, int]:
        """Clips and latent frames of a step after `share` of the time."""
        return next((clips, frames) for until, clips, frames in self.phases if min(share, 1.0) <= until)


# Frames of a clip tell much the same, so that few frames of many clips teach the words several times faster than whole
# clips; weights that know the words need only the clips, and forget less at a lower rate.
FROM_NOTHING = Course(((0.4, 16, 3), (1.0, 8, LATENT_FRAMES)), 1.0)
GOING_ON = Course(((1.0, 8, LATENT_FRAMES),), 0.5)


class TextToVideo(nn.Module):
    """Transformer and text encoder as one module, so that they share optimizer, average and checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = WanTransformer(TRANSFORMER)
        self.text_encoder = TextEncoder(TEXT_ENCODER)
        self.apply(initialise)
        nn.init.zeros_(self.transformer.head.head.weight)
        nn.init.normal_(self.transformer.get_parameter("time_projection.1.weight"), std=0.02)

    def forward(self, noisy: Tensor, timestep: Tensor, ids: Tensor, mask: Tensor, frames: Tensor) -> Tensor:
        """The velocity of noisy latents [B, z, T, h, w] at times [B, T] under token ids [B, S], mask 0 for padding.

        `frames` [T] says which latent frames of the clip they are.
        """
        grid = TRANSFORMER.grid((LATENT_FRAMES, noisy.shape[3], noisy.shape[4]))
        rope = rope_table(grid, TRANSFORMER.head_dim, noisy.device)  # [L, 1, D/2]
        rope = rope.unflatten(0, (LATENT_FRAMES, -1))[frames].flatten(0, 1)
        return self.transformer.velocity(noisy, timestep, self.text_encoder(ids, mask).float(), rope)


def initialise(module: nn.Module) -> None:
    """Xavier for matrices, as the official code; small numbers for embeddings."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=1.0 if module.num_embeddings == VOCABULARY else 0.1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Clean latents [B, z, T, h, w] of the clips' `frames` [T], and the ids and mask [B, S] of their prompts.

    given [B, T]: which of the frames the network is shown as they are; they come first.
    """

    latents: Tensor
    frames: Tensor
    given: Tensor
    ids: Tensor
    mask: Tensor


def random_batch(clips: Clips, count: int, frames: int, tokenizer: Tokenizer, rng: np.random.Generator) -> Batch:
    """`frames` latent frames of `count` clips with freshly worded prompts, some with none, half begun already."""
    chosen = rng.integers(len(clips.captions), size=count)
    given = np.minimum(rng.choice(GIVEN_FRAMES, size=count, p=GIVEN_SHARES), frames - 1)
    ids = torch.zeros(count, TRANSFORMER.text_len, dtype=torch.long)
    for row, clip in enumerate(chosen):
        tokens = tokenizer.encode(prompt_for(clips.captions[clip], given[row] > 0, rng), TRANSFORMER.text_len)
        ids[row, : len(tokens)] = torch.tensor(tokens)
    which = some_frames(frames, rng)
    latents = clips.latents[torch.from_numpy(chosen)][:, :, which].float()
    return Batch(latents, which, torch.arange(frames) < torch.from_numpy(given)[:, None], ids, ids != 0)


def prompt_for(caption: Caption, has_picture: bool, rng: np.random.Generator) -> str:
    """A prompt for a clip of `caption`: all of it, nothing, or beside a picture what the picture cannot show."""
    if rng.random() < UNPROMPTED_SHARE:
        return ""
    if has_picture and rng.random() < MOTION_ONLY_SHARE:
        return motion_wording(caption, rng)
    return wording(caption, rng)


def some_frames(count: int, rng: np.random.Generator) -> Tensor:
    """The first latent frame, the last, and random ones between.

    Rotations tell only how far apart two tokens are: without both ends the others could not know when they are.
    """
    between = 1 + rng.choice(LATENT_FRAMES - 2, count - 2, replace=False)
    return torch.from_numpy(np.sort([0, LATENT_FRAMES - 1, *between]))


def flow_loss(model: Callable[..., Tensor], batch: Batch, generator: torch.Generator) -> Tensor:
    """Mean squared error of the velocity at noise levels drawn evenly and shifted up, of the frames not given.

    Given frames stay clean and their tokens are told time 0, as TI2V-5B was trained: the network learns to read them.
    """
    level = torch.rand(len(batch.latents), generator=generator)
    level = NOISE_SHIFT * level / (1 + (NOISE_SHIFT - 1) * level)
    noise = torch.randn(batch.latents.shape, generator=generator)
    levels = torch.where(batch.given, 0.0, level[:, None])  # [B, T]
    noisy = torch.lerp(batch.latents, noise, levels[:, None, :, None, None])
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        velocity = model(noisy, 1000 * levels, batch.ids, batch.mask, batch.frames)
    errors = (velocity.float() - (noise - batch.latents)).square().movedim(1, 2)  # [B, T, z, h, w]
    return errors[~batch.given].mean()


def is_inner_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon should train this weight: the matrices inside the blocks of both networks."""
    return parameter.ndim == 2 and "blocks." in name and "pos_embedding" not in name


class RunningAverage:
    """An exponential average of a module's parameters that forgets its random start quickly."""

    def __init__(self, module: nn.Module) -> None:
        self.values = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the module's parameters after `step` steps."""
        weight = max(1 / AVERAGED_STEPS, 4 / (step + 4))
        for name, tensor in module.state_dict().items():
            self.values[name].lerp_(tensor, weight)


def train_dit(rank: int, seconds: float, clips_folder: Path, spiece: Path, checkpoint: Path, seed: int) -> None:
    """Train for `seconds`, one process of several; the averaged weights go to `checkpoint`, from which it goes on."""
    torch.manual_seed(seed)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)  # plain attention in bfloat16: a third faster here
    model, tokenizer, clips = TextToVideo(), Tokenizer(spiece.read_bytes()), Clips.load(clips_folder)
    course = GOING_ON if checkpoint.exists() else FROM_NOTHING
    if course is GOING_ON:
        model.load_state_dict(torch.load(checkpoint, weights_only=True))
    generator, rng = torch.Generator().manual_seed(seed + 1000 * rank), np.random.default_rng([seed, rank])
    optimizer, average = Optimizer(model, is_inner_matrix, MUON_RATE, ADAM_RATE), RunningAverage(model)
    compiled = torch.compile(model, dynamic=False)  # most of a step is small passes over memory: twice as fast
    begun, step, mean_loss = time.monotonic(), 0, 0.0
    while not agreed((share := (time.monotonic() - begun) / seconds) >= 1):
        loss = flow_loss(compiled, random_batch(clips, *course.sizes(share), tokenizer, rng), generator)
        optimizer.step(loss, course.rate * min(1.0, (step + 1) / 50, 1.4 * (1.01 - share)))
        average.update(model, step)
        mean_loss = loss.item() if step == 0 else 0.98 * mean_loss + 0.02 * loss.item()
        if rank == 0 and step % 50 == 0:
            log.info("step %d, %.0f s, loss %.4f", step, time.monotonic() - begun, mean_loss)
            torch.save(average.values, checkpoint)
        step += 1
        if step % 200 == 0 and len(list(clips_folder.glob("*.pt"))) * CLIPS_A_FILE > len(clips.captions):
            clips = Clips.load(clips_folder)  # more have been encoded meanwhile
    if rank == 0:
        torch.save(average.values, checkpoint)
