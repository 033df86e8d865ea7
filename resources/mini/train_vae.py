"""Trains the embedded model's VAE on small windows of random scenes: the same network, far cheaper.

The convolutions do not know how large the picture is. The one layer that does, the attention of the middle
block, is given windows of several sizes, and whole pictures at the end.
"""

import itertools
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.video_vae import Downsample, FrameAttention, ResidualBlock, Upsample, VideoVae, VideoVaeConfig
from resources.mini.training import Optimizer, agreed
from resources.mini.world import CLIP_FRAMES, CLIP_SIZE, Scene, pose, random_scene, render, split_captions

log = logging.getLogger("resources.mini")

KL_WEIGHT = 5e-4
MUON_RATE = 6e-3
ADAM_RATE = 5e-4
CONSTANT_CHANNEL = 7

Convolution = nn.Conv2d | nn.Conv3d


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """How many windows of which size make a batch."""

    count: int
    frames: int
    size: int


SMALL = (WindowBatch(8, 5, 32), WindowBatch(4, 9, 32), WindowBatch(4, 5, 48))
LARGE = (WindowBatch(4, 9, 64), WindowBatch(2, 9, 96), WindowBatch(2, 17, 64), WindowBatch(1, 9, 128))
WHOLE = (WindowBatch(1, 5, CLIP_SIZE), *LARGE)
CURRICULUM = ((0.4, SMALL), (0.92, LARGE), (1.0, WHOLE))  # until which share of the time


def vae_config(mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None) -> VideoVaeConfig:
    """The embedded VAE's sizes; without statistics its latents are left as they are."""
    z = 8
    return VideoVaeConfig(
        dim=8, z_dim=z, num_res_blocks=1, latents_mean=mean or (0.0,) * z, latents_std=std or (1.0,) * z
    )


@torch.no_grad()
def fresh_vae(config: VideoVaeConfig) -> VideoVae:
    """A VAE that starts as a picture pyramid: colours are averaged on the way down and repeated on the way up.

    With every residual branch at zero and every resampler a box filter, training begins with blurred pictures
    instead of noise, which saves a small CPU most of the early steps.
    """
    vae = VideoVae(config)
    for module in vae.modules():
        match module:
            case ResidualBlock():
                silence(convolution(module.residual[6]))
                if isinstance(module.shortcut, nn.Conv3d):
                    pass_through(module.shortcut, (0, 0, 0))
            case FrameAttention():
                silence(module.proj)
            case Downsample():
                pass_through(convolution(module.resample[1]), *itertools.product((0, 1), (0, 1)))
                if module.temporal:
                    pass_through(module.time_conv, (1, 0, 0), (2, 0, 0))
            case Upsample():
                pass_through(convolution(module.resample[1]), (1, 1))
                if module.temporal:
                    pass_through(module.time_conv, (2, 0, 0), copies=2)
    for entrance in (vae.encoder.conv1, vae.decoder.conv1):
        pass_through(entrance, (2, 1, 1))
        bias_of(entrance).normal_(std=0.5)
        bias_of(entrance)[CONSTANT_CHANNEL] = 2.0  # keeps brightness readable after the norms, which see directions
    log_variance = slice(config.z_dim, None)
    vae.conv1.weight[log_variance] *= 0.1
    bias_of(vae.conv1)[log_variance] = -5.0
    return vae


def convolution(module: nn.Module) -> Convolution:
    """`module`, known to be a convolution."""
    assert isinstance(module, nn.Conv2d | nn.Conv3d)
    return module


def bias_of(conv: Convolution) -> Tensor:
    """The bias, which every convolution of the VAE has."""
    assert conv.bias is not None
    return conv.bias


def silence(conv: Convolution) -> None:
    """Make `conv` give zeros."""
    conv.weight.zero_()
    bias_of(conv).zero_()


def pass_through(conv: Convolution, *taps: tuple[int, ...], copies: int = 1) -> None:
    """Make `conv` hand its channels on, averaged over `taps`, beside a little of its random start."""
    conv.weight *= 0.3
    bias_of(conv).zero_()
    for part in conv.weight.chunk(copies):
        for channel in range(min(part.shape[:2])):
            part[channel] *= 0.05
            for tap in taps:
                part[(channel, channel, *tap)] += 1 / len(taps)


def random_windows(batch: WindowBatch, rng: np.random.Generator) -> Tensor:
    """Video windows [B, 3, T, H, W] in -1..1 of training captions, most of them touching the shape."""
    captions, _ = split_captions()
    clips = []
    for _ in range(batch.count):
        scene = random_scene(captions[rng.integers(len(captions))], rng)
        start = int(rng.integers(0, CLIP_FRAMES - batch.frames + 1))
        frames = np.arange(start, start + batch.frames)
        top, left = random_corner(scene, start + batch.frames // 2, batch.size, rng)
        clips.append(render(scene, frames, (top, left, batch.size, batch.size)))
    pixels = torch.from_numpy(np.stack(clips))  # [B, T, H, W, 3]
    return pixels.permute(0, 4, 1, 2, 3) * 2 - 1


def random_corner(scene: Scene, frame: int, size: int, rng: np.random.Generator) -> tuple[int, int]:
    """Top left corner of a window: three in four have their centre within the shape's bounding box."""
    limit = CLIP_SIZE - size
    if rng.random() < 0.25 or limit == 0:
        top, left = rng.integers(0, limit + 1, size=2)
        return int(top), int(left)
    x, y, radius = (float(v[0]) for v in pose(scene, np.array([frame / (CLIP_FRAMES - 1)])))
    centre_y, centre_x = (np.array([y, x]) + radius * rng.uniform(-1, 1, size=2) + 1) * CLIP_SIZE / 2
    return int(np.clip(centre_y - size / 2, 0, limit)), int(np.clip(centre_x - size / 2, 0, limit))


def vae_loss(vae: VideoVae, video: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Reconstruction plus a small KL term, and the squared error for the log."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, log_variance = vae.moments(video).float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-20, 10)
        noise = torch.randn(mean.shape, generator=generator)
        decoded = vae.decode(mean + noise * (0.5 * log_variance).exp()).float()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    error = decoded - video
    return error.abs().mean() + 2 * error.square().mean() + KL_WEIGHT * kl, error.detach().square().mean()


def train_vae(rank: int, seconds: float, checkpoint: Path, seed: int) -> None:
    """Train for `seconds`, one process of several; the weights go to `checkpoint`, from which it also goes on."""
    torch.manual_seed(seed)
    vae = fresh_vae(vae_config())
    if checkpoint.exists():
        vae.load_state_dict(torch.load(checkpoint, weights_only=True))
    generator, rng = torch.Generator().manual_seed(seed + rank), np.random.default_rng([seed, rank])
    optimizer = Optimizer(vae, is_inner_convolution, MUON_RATE, ADAM_RATE)
    begun, step, average = time.monotonic(), 0, 0.0
    while not agreed((share := (time.monotonic() - begun) / seconds) >= 1):
        windows = next(windows for until, windows in CURRICULUM if min(share, 1.0) <= until)
        video = random_windows(windows[step % len(windows)], rng).to(memory_format=torch.channels_last_3d)
        loss, squared = vae_loss(vae, video, generator)
        optimizer.step(loss, min(1.0, (step + 1) / 30, 1.3 * (1.02 - share)))
        average = squared.item() if step == 0 else 0.98 * average + 0.02 * squared.item()
        if rank == 0 and step % 50 == 0:
            log.info("step %d, %.0f s, PSNR %.2f dB", step, time.monotonic() - begun, 10 * np.log10(4 / average))
            torch.save(vae.state_dict(), checkpoint)
        step += 1
    if rank == 0:
        torch.save(vae.state_dict(), checkpoint)


def is_inner_convolution(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon should train this weight: all but the convolutions from and to pixels, and the small ones."""
    return parameter.ndim >= 4 and min(parameter.shape[:2]) > 3 and not name.startswith(("conv1", "conv2"))


@torch.no_grad()
def reconstruction_psnr(vae: VideoVae, clips: int, seed: int = 1) -> float:
    """Mean PSNR in dB of whole held-out clips, encoded and decoded in float32."""
    rng = np.random.default_rng(seed)
    _, held_out = split_captions()
    values = []
    for caption in rng.choice(np.array(held_out, dtype=object), clips, replace=False):
        video = torch.from_numpy(render(random_scene(caption, rng))).permute(3, 0, 1, 2)[None]
        decoded = vae.decode(vae.encode(video * 2 - 1)).clamp(-1, 1)
        values.append(-10 * torch.log10(F.mse_loss(decoded / 2 + 0.5, video)).item())
    return float(np.mean(values))
