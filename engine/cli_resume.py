"""`python -m engine resume`: the videos of jobs that were killed, failed or stopped before they had one."""

import argparse
import json
import sys
import time
from pathlib import Path

from engine.cli_job import CANCELLED, FINISHED, JobTerminal
from engine.cli_words import printable
from engine.commands import COMMAND_FILE, ContinueVideo, DecodeLatents
from engine.errors import EngineError, ErrorCode
from engine.events import Event, JobFailed, JobStarted
from engine.output.interrupted import INTERRUPTED, STOPPED, Claim, InterruptedJob, claim, interrupted_jobs, named_job
from engine.output.job_folder import STATE_FILE, default_jobs_folder

NOTHING_TO_RESUME = "No job was interrupted."
JOB_HELP = "the folder of one job, however it ended; default: all that were killed, or failed while sampling"


def add_resume_options(parser: argparse.ArgumentParser) -> None:
    """The options of `resume`."""
    parser.add_argument("job", type=Path, nargs="?", metavar="JOB_FOLDER", help=JOB_HELP)
    parser.add_argument("--jobs", type=Path, metavar="DIR", help="where jobs are kept")
    parser.add_argument("--cancelled", action="store_true", help="those too that were cancelled while sampling")
    parser.add_argument("--anew", action="store_true", help="sample JOB_FOLDER from the first step, whatever it kept")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="only say which jobs there are")
    instead.add_argument("--forget", action="store_true", help="never offer them again; finished latents stay on disk")
    parser.add_argument("--json", action="store_true", help="one JSON object per job or event on standard output")


def resume(
    jobs_folder: Path | None,
    *,
    only_list: bool,
    forget: bool,
    as_json: bool,
    job: Path | None = None,
    cancelled: bool = False,
    anew: bool = False,
) -> int:
    """Make the videos of the jobs that are meant, or only list or forget them; returns the exit code.

    Raises INVALID_SETTING, and for a `job` that is named what `named_job` raises.
    """
    if jobs_folder is None:
        jobs_folder = default_jobs_folder() if job is None else job.absolute().parent
    jobs = _meant(jobs_folder, job, cancelled=cancelled, anew=anew)
    if not jobs and not as_json:
        print(NOTHING_TO_RESUME, file=sys.stderr)
    if forget:
        jobs = [each for each in jobs if _forget(each)]
    if only_list or forget:
        for each in jobs:
            print(json.dumps(_fields(each)) if as_json else _said(each))
        return FINISHED
    return _make_all(jobs, JobTerminal(jobs_folder, as_json=as_json), as_json=as_json, anew=anew)


def _meant(jobs_folder: Path, job: Path | None, *, cancelled: bool, anew: bool) -> list[InterruptedJob]:
    if job is not None:
        if not (job / COMMAND_FILE).exists():
            allowed = f"the folder of a job, where a {COMMAND_FILE} lies; that is none"
            raise EngineError(ErrorCode.INVALID_SETTING, name="JOB_FOLDER", value=str(job), allowed=allowed)
        return [named_job(job.absolute())]
    if anew:
        raise EngineError(ErrorCode.INVALID_SETTING, name="--anew", value="all jobs", allowed="one, by its folder")
    return interrupted_jobs(jobs_folder, STOPPED if cancelled else INTERRUPTED)


def _forget(job: InterruptedJob) -> bool:
    """Whether `job` was still there to be forgotten."""
    claimed = claim(job)
    if claimed is not None:
        claimed.forget()
    return claimed is not None


def _make_all(jobs: list[InterruptedJob], terminal: JobTerminal, *, as_json: bool, anew: bool) -> int:
    codes = [FINISHED]
    for job in jobs:
        codes.append(_make(job, terminal, as_json=as_json, anew=anew))
        if codes[-1] == CANCELLED:
            break
    return max(codes)


def _make(job: InterruptedJob, terminal: JobTerminal, *, as_json: bool, anew: bool) -> int:
    """The video of one job that nobody else has taken up; without one the job stays interrupted."""
    claimed = claim(job)
    if claimed is None:
        if not as_json:
            print(f"taken up elsewhere   {printable(str(job.latents or job.path))}", file=sys.stderr)
        return FINISHED
    rest = job.rest()
    if anew:
        claimed.begin_anew()
        rest = ContinueVideo(job.path, rest.output)
    if isinstance(rest, DecodeLatents):
        return _decode(rest, claimed, terminal)
    claimed.release()  # the job takes its folder up itself
    code, is_refused = _continue(rest, terminal)
    if is_refused and not as_json:
        print(f'To begin anew: python -m engine resume "{printable(str(job.path))}" --anew', file=sys.stderr)
    return code


def _continue(command: ContinueVideo, terminal: JobTerminal) -> tuple[int, bool]:
    """The exit code of going on, and whether what was kept is what cannot be used."""
    refusals: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, JobFailed) and event.details.get("file") == str(command.job / STATE_FILE):
            refusals.append(event)

    return terminal.run(command, listen), bool(refusals)


def _decode(command: DecodeLatents, claimed: Claim, terminal: JobTerminal) -> int:
    def hand_over(event: Event) -> None:
        if isinstance(event, JobStarted):
            claimed.hand_over(command.output)

    code = terminal.run(command, hand_over)
    if code == FINISHED:
        claimed.release()
    else:
        claimed.give_back()
    return code


def _fields(job: InterruptedJob) -> dict[str, str | float | int | None]:
    fields: dict[str, str | float | int | None] = {"job": str(job.path), "output": str(job.output), "when": job.when}
    fields["latents"] = None if job.latents is None else str(job.latents)
    fields["kept_steps"], fields["steps"] = (0, 0) if job.kept is None else (job.kept.done, job.kept.total)
    return fields | {"end": job.end, "problem": job.problem}


def _said(job: InterruptedJob) -> str:
    """A job in one line: when it began, what it is, and where its video was to go."""
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(job.when))
    return printable(f"{began}     {job.latents or job.path} ({_how_far(job)}) -> {job.output}")


def _how_far(job: InterruptedJob) -> str:
    if job.latents is not None:
        return "sampled"
    if job.kept is not None:
        return f"{job.kept.done} of {job.kept.total} steps"
    return f"nothing to go on from: {job.problem}" if job.problem else "from the first step"
