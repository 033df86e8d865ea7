"""`python -m engine`: generate, decode, resume, plan, inspect and quantize from a terminal or a script.

Exit codes: 0 the job finished; 1 it failed; 2 it was asked for something impossible (also argparse's own code);
130 it was cancelled: by Ctrl+C, a request to end, or because nobody reads what it says any more. `resume` runs
several jobs, and ends with the highest of their codes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.cli_decode import add_decode_action, decode_command
from engine.cli_events import print_json
from engine.cli_generate import add_generate_options, generate_commands
from engine.cli_inspect import add_inspect_options, show_inspection
from engine.cli_job import FINISHED, JobTerminal, exit_code_of
from engine.cli_plan import add_plan_options, show_plan
from engine.cli_quantize import add_quantize_options, quantize
from engine.cli_resume import add_resume_options, resume
from engine.cli_words import sentence
from engine.commands import Command
from engine.errors import EngineError
from engine.events import JobFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        if parsed.action == "plan":
            return show_plan(parsed)
        if parsed.action == "inspect":
            return show_inspection(parsed.path, as_json=parsed.json)
        if parsed.action == "quantize":
            return quantize(parsed.checkpoint, parsed.to, parsed.output, as_json=parsed.json)
        if parsed.action == "resume":
            return resume(
                parsed.jobs, only_list=parsed.list, forget=parsed.forget, as_json=parsed.json, job=parsed.job,
                cancelled=parsed.cancelled, anew=parsed.anew,
            )  # fmt: skip
        commands: Sequence[Command] = (
            generate_commands(parsed) if parsed.action == "generate" else [decode_command(parsed)]
        )
    except EngineError as error:
        return refuse(error, as_json=parsed.json)
    return run_all(commands, JobTerminal(parsed.jobs, as_json=parsed.json))


def run_all(commands: Sequence[Command], terminal: JobTerminal) -> int:
    """Run jobs one after the other, those after one that did not finish not at all; returns the last exit code."""
    return next((code for code in map(terminal.run, commands) if code != FINISHED), FINISHED)


def build_parser() -> argparse.ArgumentParser:
    """The six commands with their options; settings left out are the model's own."""
    parser = argparse.ArgumentParser(prog="python -m engine", description="Video from Wan models in bounded memory.")
    actions = parser.add_subparsers(dest="action", required=True)
    generate = actions.add_parser("generate", help="a prompt, and pictures if wanted, to an MP4")
    add_generate_options(generate)
    decode = actions.add_parser("decode", help="latents of a job or of another program to an MP4")
    add_decode_action(decode)
    for action in (generate, decode):
        _add_job_options(action)
    add_resume_options(actions.add_parser("resume", help="go on with jobs that were killed"))
    add_plan_options(actions.add_parser("plan", help="what a job would take, stage by stage"))
    add_inspect_options(actions.add_parser("inspect", help="what a model file or folder is, and what it lacks"))
    add_quantize_options(actions.add_parser("quantize", help="a checkpoint made into a smaller one"))
    return parser


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    parser.add_argument("--fps", type=int)
    parser.add_argument("--jobs", type=Path, metavar="DIR", help="where latents are kept")
    parser.add_argument("--json", action="store_true", help="one JSON object per event on standard output")


def refuse(error: EngineError, *, as_json: bool) -> int:
    """Tell of what failed before a job began as its end would be told; returns the exit code."""
    if as_json:
        print_json(JobFailed(error.code, error.details, str(error)))
    else:
        print(sentence(error.code, error.details), file=sys.stderr)
    return exit_code_of(error.code)
