"""A sampling that computes next to nothing but remembers like a real one; shared by the tests of what is kept of it."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from engine.commands import GenerateVideo
from engine.errors import EngineError
from engine.generation import Solver
from engine.output.job_folder import JobFolder
from engine.output.kept_steps import kept_steps
from engine.sampling.checkpoint import SamplingState, fingerprint, read_state
from engine.sampling.guidance import seeded_noise
from engine.sampling.keeping import Keeping
from engine.sampling.schedule import schedule_for
from engine.sampling.solvers import Past, step_of

STEPS = 12
STEP_SECONDS = 0.02
SHAPE = (1, 16, 5, 30, 52)


def state_after(
    step: int, steps: int = STEPS, belongs_to: str = "job", shape: tuple[int, ...] = SHAPE
) -> SamplingState:
    """A state whose every value tells the step."""
    x = torch.full(shape, float(step))
    past = Past(x + 0.25, (x + 0.5, x + 0.75), 1 + step % 2)
    return SamplingState(step, steps, x, past, belongs_to)


def is_whole(state: SamplingState) -> bool:
    """Whether all of `state` is of its one step."""
    expected = state_after(state.step, state.steps, shape=tuple(state.x.shape))
    found, wanted = ((each.x, each.past.sample, *each.past.x0s) for each in (state, expected))
    are_equal = all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    return are_equal and state.past.order == expected.past.order


def sampled(folder: JobFolder, command: GenerateVideo, *, keeps_all: bool = True) -> Tensor:
    """Latents by the real solvers from what `folder` has kept; a velocity that depends on every value of x."""
    belongs_to = fingerprint(command, ())
    kept = folder.read_state(belongs_to)
    first, x, past = (0, seeded_noise(SHAPE, command.seed), Past()) if kept is None else (kept.step, kept.x, kept.past)
    schedule = schedule_for(command.solver, command.steps, command.shift)
    clock = iter(range(0, 10**9, 1000)).__next__ if keeps_all else time.monotonic  # every step is long, none to write
    with Keeping(folder.keep_state, lambda _: None, lambda: float(clock())) as keeping:
        for index in range(first, schedule.steps):
            time.sleep(STEP_SECONDS if keeps_all else 0)
            velocity = torch.tanh(x * schedule.sigmas[index]) + x.mean()
            x, past = step_of(command.solver, command.seed)(schedule, index, x, velocity, past)
            keeping.take(SamplingState(index + 1, schedule.steps, x, past, belongs_to))
    return x


def write_states(file: Path) -> None:
    """Put one state after the other in the same place, and say so each time, until killed."""
    folder = JobFolder(file.parent, None)
    for step in range(1, 1000):
        folder.keep_state(state_after(step, 1000, shape=(1, 16, 5, 60, 104)))
        os.write(1, f"{step}\n".encode())


def kill_writers(folder: Path, rounds: int) -> None:
    """In processes that are killed at random moments, and the state that each leaves, told as JSON."""
    chance = random.Random(0)
    for number in range(rounds):
        place = folder / str(number)
        place.mkdir()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            write_states(place / "sampling.safetensors")
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as lines:
            said = [int(lines.readline()) for _ in range(number % 3)]
            time.sleep(chance.uniform(0, 0.03))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            said += [int(line) for line in lines if line.endswith("\n")]
        print(json.dumps(found_in(place, said[-1] if said else 0)), flush=True)


def found_in(place: Path, said: int) -> dict[str, object]:
    file = place / "sampling.safetensors"
    left = sorted(each.name for each in place.iterdir())
    try:
        state = read_state(file, "job") if file.exists() else None
    except EngineError as error:
        return {"said": said, "step": -1, "whole": False, "error": str(error), "left": left}
    step, whole = (0, True) if state is None else (state.step, is_whole(state))
    return {"said": said, "step": step, "whole": whole, "left": left}


def kill_samplers(folder: Path, solver: str) -> None:
    """A job that is killed again and again until its latents are saved; how often, and from which steps, is told."""
    command = GenerateVideo("x", folder / "out.mp4", steps=STEPS, seed=3, solver=Solver(solver))
    job = JobFolder.create(folder / "jobs", command)
    assert job.lock is not None
    job.lock.release()
    chance, begun = random.Random(1), list[int]()
    while not job.latents.exists():
        kept = job.read_state(fingerprint(command, ()))
        begun.append(0 if kept is None else kept.step)
        child = os.fork()
        if child == 0:
            again = JobFolder.reopen(job.path, command)
            again.save_latents(sampled(again, command))
            os._exit(0)
        wait_for_another(job, kept)
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert status in (0, signal.SIGKILL), "failed by itself"
    print(json.dumps({"job": str(job.path), "begun": begun}))


def wait_for_another(job: JobFolder, kept: SamplingState | None) -> None:
    """Until a state after `kept` is on disk, or the latents."""
    while not job.latents.exists():
        if job.state.exists() and (kept is None or kept_steps(job.state).done > kept.step):
            return
        time.sleep(0.001)


if __name__ == "__main__":
    torch.set_num_threads(1)  # children of a fork have no other threads
    if sys.argv[1] == "writers":
        kill_writers(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        kill_samplers(Path(sys.argv[2]), sys.argv[3])
