"""Jobs on the embedded model and those made of it, and what came out of them; shared by the tests of whole roads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import engine.recipes
from engine.commands import EMBEDDED_MODEL, Command, GenerateVideo
from engine.events import JobFinished, JobStarted, LatentsSaved
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.sampling.conditioning import Conditioning
from tests.engine.job_run import Run
from tests.engine.plain_road import whole_vae
from tests.engine.road_models import VAE_FILE


def embedded_command(folder: Path, model: Path = EMBEDDED_MODEL) -> GenerateVideo:
    """A job of a second: 96x64, 9 frames, 4 steps."""
    return GenerateVideo(
        "a red ball bouncing on a blue background", folder / "clip.mp4", model, width=96, height=64, frames=9, steps=4
    )


def finished(command: Command, folder: Path) -> Run:
    """The job of `command`, with `folder` for the jobs, after it has come to its video."""
    run = Run(command, folder / "jobs")
    end = run()
    assert isinstance(end, JobFinished), end
    return run


def latents_in(run: Run) -> Tensor:
    return load_file(next(event.path for event in run.events if isinstance(event, LatentsSaved)))["latents"]


def job_folder_of(run: Run) -> Path:
    return next(event.job_folder for event in run.events if isinstance(event, JobStarted))


def shown(run: Run) -> np.ndarray:
    """The decoded frames, RGB [T, H, W, 3]."""
    return run.canvas.pixels[..., 2::-1]


def embedded_vae() -> VideoVae:
    stated = json.loads((EMBEDDED_MODEL / "Wan2.1_VAE.json").read_text("utf-8"))
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in stated.items()}
    config = VideoVaeConfig(**fields)
    return whole_vae(EMBEDDED_MODEL / VAE_FILE, config)


def as_rgb(video: Tensor) -> np.ndarray:
    """Decoded [1, 3, T, H, W] as bytes [T, H, W, 3]."""
    return ((video[0].clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()


def save_scene(file: Path, shift: int = 0) -> np.ndarray:
    """A picture of the embedded model's world, uint8 [64, 96, 3]: a red ball on blue, `shift` pixels further right."""
    rows, columns = np.mgrid[:64, :96]
    picture = np.full((64, 96, 3), (31, 51, 117), np.uint8)
    picture[(rows - 30) ** 2 + (columns - 26 - shift) ** 2 < 15**2] = (222, 33, 36)
    Image.fromarray(picture).save(file)
    return picture


def levels(picture: np.ndarray) -> Tensor:
    """Bytes [H, W, 3] as [3, H, W] in -1..1."""
    return torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1


def there(value: Tensor | None) -> Tensor:
    assert value is not None
    return value


def heard_conditionings(monkeypatch: pytest.MonkeyPatch) -> list[Conditioning]:
    """What is given to the sampling of each job from here on."""
    found: list[Conditioning] = []
    read = engine.recipes.read_pictures  # type: ignore[attr-defined]

    def listened(*arguments: Any) -> Conditioning:  # noqa: ANN401
        found.append(read(*arguments))
        return found[-1]

    monkeypatch.setattr(engine.recipes, "read_pictures", listened)
    return found


def decibels(found: np.ndarray, expected: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((found.astype(float) - expected.astype(float)) ** 2)))
