"""A job in a process of its own that keeps every step, takes its time for it, and says what it has kept; to be killed.

Run as `python -m tests.engine.killed_sampling JOBS_FOLDER`, with a command as JSON on standard input.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import engine.sampling.keeping
from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import Command, from_json, to_json
from engine.engine import Engine
from engine.events import Event, JobFailed, JobFinished, JobStarted, SamplingKept, Stage, StageProgressed

STEP_SECONDS = 0.05


def start(command: Command, jobs: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.engine.killed_sampling", str(jobs)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(to_json(command))
    process.stdin.close()
    return process


def kill_after(command: Command, jobs: Path, steps: int, delay: float = 0.0) -> Path:
    """The folder of the job, whose process was killed `delay` seconds after it said that so many steps are kept."""
    process, folder = start(command, jobs), None
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        folder = said.get("job", folder)
        if said.get("kept", 0) >= steps:
            break
    else:
        raise AssertionError("the job ended before it was killed")
    time.sleep(delay)
    process.kill()
    process.wait()
    assert folder is not None
    return Path(folder)


def say(event: Event) -> None:
    if isinstance(event, JobStarted):
        print(json.dumps({"job": str(event.job_folder)}), flush=True)
    if isinstance(event, SamplingKept):
        print(json.dumps({"kept": event.steps}), flush=True)
    if isinstance(event, JobFailed | JobFinished):
        print(json.dumps({"end": str(event)}), flush=True)
    if isinstance(event, StageProgressed) and event.stage is Stage.SAMPLE:
        time.sleep(STEP_SECONDS)


if __name__ == "__main__":
    engine.sampling.keeping.KEEP_SECONDS = engine.sampling.keeping.WORK_TO_WRITING = 0.0
    Engine(Path(sys.argv[1])).run(from_json(sys.stdin.read()), say, Canvas(), CancelFlag())
