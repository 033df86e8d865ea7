"""`python -m engine resume`: the videos of jobs whose process was killed after their latents were safe."""

import argparse
import json
import sys
from pathlib import Path

from engine.cli_job import CANCELLED, FINISHED, JobTerminal
from engine.cli_words import NOTHING_INTERRUPTED, said_interrupted, said_taken
from engine.events import Event, JobStarted
from engine.output.interrupted import InterruptedJob, claim, interrupted_jobs
from engine.output.job_folder import default_jobs_folder


def add_resume_options(parser: argparse.ArgumentParser) -> None:
    """The options of `resume`."""
    parser.add_argument("--jobs", type=Path, metavar="DIR", help="where latents were kept")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="only say which jobs there are")
    instead.add_argument("--forget", action="store_true", help="never offer them again; what was sampled stays on disk")
    parser.add_argument("--json", action="store_true", help="one JSON object per job or event on standard output")


def resume(jobs_folder: Path | None, *, only_list: bool, forget: bool, as_json: bool) -> int:
    """Decode every interrupted job, oldest first, or only list or forget them; returns the exit code."""
    jobs = interrupted_jobs(jobs_folder or default_jobs_folder())
    if not jobs and not as_json:
        print(NOTHING_INTERRUPTED, file=sys.stderr)
    if forget:
        jobs = [job for job in jobs if _forget(job)]
    if only_list or forget:
        for job in jobs:
            said = said_interrupted(job.when, job.latents, job.output)
            print(json.dumps(_fields(job)) if as_json else _printable(said))
        return FINISHED
    return _decode_all(jobs, JobTerminal(jobs_folder, as_json=as_json), as_json=as_json)


def _forget(job: InterruptedJob) -> bool:
    """Whether `job` was still there to be forgotten."""
    claimed = claim(job)
    if claimed is not None:
        claimed.forget()
    return claimed is not None


def _decode_all(jobs: list[InterruptedJob], terminal: JobTerminal, *, as_json: bool) -> int:
    codes = [FINISHED]
    for job in jobs:
        codes.append(_decode(job, terminal, as_json=as_json))
        if codes[-1] == CANCELLED:
            break
    return max(codes)


def _decode(job: InterruptedJob, terminal: JobTerminal, *, as_json: bool) -> int:
    """Decode one job that nobody else has taken up; without a video it stays interrupted."""
    claimed = claim(job)
    if claimed is None:
        if not as_json:
            print(said_taken(job.latents), file=sys.stderr)
        return FINISHED
    command = job.decoding()

    def hand_over(event: Event) -> None:
        if isinstance(event, JobStarted):
            claimed.hand_over(command.output)

    code = terminal.run(command, hand_over)
    if code == FINISHED:
        claimed.release()
    else:
        claimed.give_back()
    return code


def _fields(job: InterruptedJob) -> dict[str, str | float]:
    return {"job": str(job.path), "latents": str(job.latents), "output": str(job.output), "when": job.when}


def _printable(text: str) -> str:
    """`text` with escapes for what a pipe of this encoding cannot take; paths may hold anything."""
    encoding = sys.stdout.encoding
    return text.encode(encoding, "backslashreplace").decode(encoding)
