"""Measures the embedded model: `python -m resources.mini.evaluate`.

Held-out prompts, and first frames of held-out clips, go the whole way through the engine; the judge sees only the
pixels of the finished MP4. Writes a table (`evaluation.md`) and every single verdict (`evaluation.json`).
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
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
from engine.generation import Given
from engine.model_choice import WeightForm
from engine.weights.detect import find_model
from engine.weights.load import load_vae
from resources.mini.judge import judge
from resources.mini.train_vae import reconstruction_psnr
from resources.mini.trial import VAE_LIMIT_DB, Question, Road, Trial, table
from resources.mini.world import CLIP_SIZE, split_captions

VAE_CLIPS = 40
WORKING_THREADS = "1"  # a process: threads that wait for each other's cores crawl


def read_video(file: Path) -> np.ndarray:
    """Pixels [T, H, W, 3] float32 in 0..1 of an MP4 or a picture."""
    frames = imageio_ffmpeg.read_frames(str(file), pix_fmt="rgb24")
    width, height = next(frames)["size"]
    return np.stack([np.frombuffer(f, np.uint8).reshape(height, width, 3) for f in frames]).astype(np.float32) / 255


def write_picture(file: Path, pixels: np.ndarray) -> None:
    """A PNG of pixels [256, 256, 3] uint8, without loss."""
    size, png = (CLIP_SIZE, CLIP_SIZE), ["-frames:v", "1", "-update", "1"]
    writer = imageio_ffmpeg.write_frames(
        str(file), size, pix_fmt_out="rgb24", codec="png", quality=None, bitrate="0", output_params=png
    )
    writer.send(None)
    writer.send(np.ascontiguousarray(pixels))
    writer.close()


def psnr(pixels: np.ndarray, truth: np.ndarray) -> float:
    """Decibels between two pictures in 0..1."""
    return float(-10 * np.log10(np.mean((pixels - truth) ** 2)))


def ask(model: Path, question: Question, weights: WeightForm) -> Trial:
    """Generate a clip with the model's usual settings and its weights in this form, and judge it."""
    with tempfile.TemporaryDirectory() as folder:
        command = command_for(question, model, Path(folder), weights)
        events: list[Event] = []
        begun = time.perf_counter()
        Engine(Path(folder) / "jobs").run(command, events.append, Canvas(), CancelFlag())
        seconds = time.perf_counter() - begun
        if not isinstance(events[-1], JobFinished):
            raise RuntimeError(f"no clip of {question}: {events[-1]}")
        return seen(question, read_video(command.output), seconds)


def command_for(question: Question, model: Path, folder: Path, weights: WeightForm) -> GenerateVideo:
    """What the engine is asked; a first frame is put into `folder`, where the clip will be too."""
    given, picture = Given(), folder / "first.png"
    if question.road.has_picture:
        write_picture(picture, question.first_frame())
        given = Given(first=picture)
    prompt, output = question.road.prompt(question.caption), folder / "clip.mp4"
    return GenerateVideo(prompt, output, model, seed=question.seed, weights=weights, given=given)


def seen(question: Question, clip: np.ndarray, seconds: float) -> Trial:
    """The trial whose MP4 has the pixels `clip` [T, H, W, 3]."""
    nearness = psnr(clip[0], question.first_frame() / 255) if question.road.has_picture else None
    return Trial(question, judge(clip), nearness, seconds)


def held_out_questions(prompts: int, pictures: int, seed: int) -> list[Question]:
    """The first `prompts` of the shuffled held-out captions by words, the first `pictures` by each other road."""
    _, held_out = split_captions()
    order = np.random.default_rng(seed).permutation(len(held_out))
    return [
        Question(held_out[i], road, seed + number)
        for road in Road
        for number, i in enumerate(order[: pictures if road.has_picture else prompts])
    ]


def ask_all(model: Path, questions: list[Question], processes: int, weights: WeightForm) -> list[Trial]:
    """The trials of `questions`, several at a time, each on one thread."""
    os.environ["OMP_NUM_THREADS"] = WORKING_THREADS
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(ask, [model] * len(questions), questions, [weights] * len(questions)))


def main() -> None:
    """Evaluate the model named on the command line and write the results."""
    parser = argparse.ArgumentParser(prog="python -m resources.mini.evaluate")
    parser.add_argument("--model", type=Path, default=EMBEDDED_MODEL)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--pictures", type=int, default=40, help="first frames, each with three kinds of prompt")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    forms, stored = list(WeightForm), WeightForm.STORED
    parser.add_argument("--weights", type=WeightForm, choices=forms, default=stored, help="form of the large weights")
    parser.add_argument("--out", type=Path, default=EMBEDDED_MODEL / "evaluation")
    options = parser.parse_args()
    questions = held_out_questions(options.prompts, options.pictures, options.seed)
    trials = ask_all(options.model, questions, options.processes, options.weights)
    vae = load_vae(find_model(options.model), torch.device("cpu"), torch.float32)
    reached = f"VAE reconstruction of {VAE_CLIPS} held-out clips: {reconstruction_psnr(vae, VAE_CLIPS):.1f} dB"
    text = f"{table(trials)}\n{reached} (limit {VAE_LIMIT_DB} dB).\n"
    print(text)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    rows = [dataclasses.asdict(trial) for trial in trials]
    options.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
