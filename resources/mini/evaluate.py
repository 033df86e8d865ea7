"""Measures the embedded model: `python -m resources.mini.evaluate`.

Held-out prompts go the whole way through the engine; the judge sees only the pixels of the finished MP4.
Writes a table (`evaluation.md`) and every single verdict (`evaluation.json`).
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import EMBEDDED_MODEL, GenerateVideo
from engine.engine import Engine
from engine.events import Event, JobFinished
from engine.model_choice import WeightForm
from engine.weights.detect import find_model
from engine.weights.load import load_vae
from resources.mini.judge import Verdict, judge
from resources.mini.train_vae import reconstruction_psnr
from resources.mini.world import Caption, split_captions

LIMITS = {"colour": 95, "background": 95, "motion": 85, "shape": 75}
VAE_LIMIT_DB = 30
VAE_CLIPS = 40


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt, what its clip shows, and how long it took from prompt to MP4."""

    caption: Caption
    verdict: Verdict
    seconds: float

    def right(self, part: str) -> bool:
        """Whether the clip shows this part of the caption."""
        return bool(getattr(self.caption, part) == getattr(self.verdict, part))


def read_video(file: Path) -> np.ndarray:
    """Pixels [T, H, W, 3] float32 in 0..1 of an MP4."""
    frames = imageio_ffmpeg.read_frames(str(file), pix_fmt="rgb24")
    width, height = next(frames)["size"]
    return np.stack([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in frames]).astype(np.float32) / 255


def try_prompt(model: Path, caption: Caption, seed: int, weights: WeightForm) -> Trial:
    """Generate a clip of `caption` with the model's usual settings and its weights in this form, and judge it."""
    events: list[Event] = []
    with tempfile.TemporaryDirectory() as folder:
        command = GenerateVideo(str(caption), Path(folder) / "clip.mp4", model, seed=seed, weights=weights)
        begun = time.perf_counter()
        Engine(Path(folder) / "jobs").run(command, events.append, Canvas(), CancelFlag())
        seconds = time.perf_counter() - begun
        if not isinstance(events[-1], JobFinished):
            raise RuntimeError(f"no clip of {caption}: {events[-1]}")
        return Trial(caption, judge(read_video(command.output)), seconds)


def held_out_trials(model: Path, prompts: int, processes: int, seed: int, weights: WeightForm) -> list[Trial]:
    """Trials of `prompts` held-out captions, several at a time, each on one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for the new processes; threads that wait for each other's cores crawl
    _, held_out = split_captions()
    chosen = [held_out[i] for i in np.random.default_rng(seed).permutation(len(held_out))[:prompts]]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        seeds, count = range(seed, seed + len(chosen)), len(chosen)
        return list(pool.map(try_prompt, [model] * count, chosen, seeds, [weights] * count))


def table(trials: list[Trial], psnr: float) -> str:
    """The results beside their limits, as Markdown."""
    lines = ["| held-out | reached | limit |", "|---|---|---|"]
    lines.append(f"| VAE reconstruction, {VAE_CLIPS} clips | {psnr:.1f} dB | {VAE_LIMIT_DB} dB |")
    for part, limit in LIMITS.items():
        share = 100 * np.mean([trial.right(part) for trial in trials])
        lines.append(f"| right {part}, {len(trials)} prompts | {share:.1f} % | {limit} % |")
    whole = 100 * np.mean([all(trial.right(part) for part in LIMITS) for trial in trials])
    lines.append(f"| all four right | {whole:.1f} % | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Evaluate the model named on the command line and write the results."""
    parser = argparse.ArgumentParser(prog="python -m resources.mini.evaluate")
    parser.add_argument("--model", type=Path, default=EMBEDDED_MODEL)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    forms, stored = list(WeightForm), WeightForm.STORED
    parser.add_argument("--weights", type=WeightForm, choices=forms, default=stored, help="form of the large weights")
    parser.add_argument("--out", type=Path, default=EMBEDDED_MODEL / "evaluation")
    options = parser.parse_args()
    vae = load_vae(find_model(options.model), torch.device("cpu"), torch.float32)
    psnr = reconstruction_psnr(vae, VAE_CLIPS)
    trials = held_out_trials(options.model, options.prompts, options.processes, options.seed, options.weights)
    text = table(trials, psnr)
    print(text)
    options.out.with_suffix(".md").write_text(text)
    rows = [dataclasses.asdict(trial) for trial in trials]
    options.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
