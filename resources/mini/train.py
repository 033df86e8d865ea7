"""Makes the embedded model from nothing but this folder: `python -m resources.mini.train all --work build/mini`.

Stages, each a command of its own that goes on from the files of the one before (see README.md):
vocabulary, vae, statistics, clips, dit, export; `resume` brings their files back from the model folder. Training is
bounded by wall-clock minutes, so that one machine's patience, not a step count, decides; everything else is seeded.
"""

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from resources.mini.clips import STATISTICS, encode_clips, measure_statistics
from resources.mini.export import export, take_back
from resources.mini.train_dit import VOCABULARY, train_dit
from resources.mini.train_vae import train_vae
from resources.mini.training import run_on_every_core
from resources.mini.vocabulary import train_vocabulary

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Job:
    """What the command line asked for."""

    work: Path
    out: Path
    seed: int
    vae_minutes: float
    dit_minutes: float
    rounds: int


def vocabulary(job: Job) -> None:
    """The SentencePiece model."""
    train_vocabulary(job.work / "spiece.model", VOCABULARY, job.seed)


def vae(job: Job) -> None:
    """The VAE, on every core."""
    run_on_every_core(_vae, job)


def statistics(job: Job) -> None:
    """Mean and deviation of the latents."""
    measure_statistics(job.work / "vae.pt", job.work / "clips" / STATISTICS, job.seed)


def clips(job: Job) -> None:
    """The transformer's training set, on every core."""
    run_on_every_core(_clips, job)


def dit(job: Job) -> None:
    """The transformer and the text encoder, on every core."""
    run_on_every_core(_dit, job)


def write(job: Job) -> None:
    """The model folder."""
    export(job.work, job.out)


def resume(job: Job) -> None:
    """The files of the work folder from the model folder, to go on with `clips` and `dit`."""
    take_back(job.out, job.work)


STAGES: dict[str, Callable[[Job], None]] = {
    "vocabulary": vocabulary, "vae": vae, "statistics": statistics, "clips": clips, "dit": dit, "export": write,
    "resume": resume,
}  # fmt: skip
FROM_NOTHING = tuple(stage for stage in STAGES if stage != "resume")


def _vae(rank: int, job: Job) -> None:
    _log()
    train_vae(rank, 60 * job.vae_minutes, job.work / "vae.pt", job.seed)


def _clips(rank: int, job: Job) -> None:
    _log()
    encode_clips(rank, dist.get_world_size(), job.rounds, job.work / "vae.pt", job.work / "clips", job.seed)


def _dit(rank: int, job: Job) -> None:
    _log()
    work = job.work
    train_dit(rank, 60 * job.dit_minutes, work / "clips", work / "spiece.model", work / "dit.pt", job.seed)


def _log() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")


def main() -> None:
    """Run the stages named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m resources.mini.train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stages", nargs="+", choices=[*STAGES, "all"])
    parser.add_argument("--work", type=Path, default=Path("build/mini"), help="folder for what lies between the stages")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the model folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-minutes", type=float, default=20)
    parser.add_argument("--dit-minutes", type=float, default=90)
    parser.add_argument("--rounds", type=int, default=1, help="scenes of every training caption")
    options = vars(parser.parse_args())
    chosen = options.pop("stages")
    job = Job(**options)
    job.work.mkdir(parents=True, exist_ok=True)
    for stage in FROM_NOTHING if "all" in chosen else chosen:
        STAGES[stage](job)


if __name__ == "__main__":
    main()
