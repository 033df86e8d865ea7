"""Jobs that are refused, fail or are cancelled: what is told, what is kept, and that nothing is left half done."""

import dataclasses
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engine.commands import DecodeLatents, DecodeSettings, GenerateVideo
from engine.errors import ErrorCode
from engine.events import (
    Event,
    JobCancelled,
    JobFinished,
    Stage,
    StageProgressed,
)
from tests.engine.job_run import FRAMES, Run, assert_failed, kept_in, tiny_command


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path) -> GenerateVideo:
    return tiny_command(tiny_model, tmp_path)


def assert_no_part_and_no_ffmpeg(folder: Path) -> None:
    assert not folder.exists() or list(folder.glob("*.part")) == []
    assert [child.name() for child in psutil.Process().children() if "ffmpeg" in child.name()] == []


def test_what_cannot_work_is_refused_before_anything_runs(command: GenerateVideo, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    impossible: list[tuple[dict[str, Any], ErrorCode]] = [
        ({"width": 71}, ErrorCode.INVALID_SIZE),
        ({"frames": 10}, ErrorCode.INVALID_FRAMES),
        ({"steps": 0}, ErrorCode.INVALID_SETTING),
        ({"fps": 0}, ErrorCode.INVALID_SETTING),
        ({"model": tmp_path / "nothing"}, ErrorCode.MODEL_NOT_FOUND),
        ({"output": tmp_path / "file" / "out.mp4"}, ErrorCode.OUTPUT_NOT_WRITABLE),
        ({"decode": DecodeSettings(budget_bytes=1000)}, ErrorCode.NO_PLAN_FITS),
    ]
    for change, code in impossible:
        run = Run(dataclasses.replace(command, **change), tmp_path / "jobs")
        assert_failed(run(), code)
        assert len(run.events) == 1
    assert not (tmp_path / "jobs").exists()


def test_a_missing_ffmpeg_is_told_before_anything_runs(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))
    run = Run(command, tmp_path / "jobs")
    assert_failed(run(), ErrorCode.VIDEO_WRITER_FAILED)
    assert len(run.events) == 1
    assert not (tmp_path / "jobs").exists()


def test_a_failed_video_keeps_the_latents(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = [sys.executable, "-c", "raise SystemExit(1)"]
    monkeypatch.setattr("engine.output.video_writer.ffmpeg_command", lambda *_: fails)
    end = assert_failed(Run(command, tmp_path / "jobs")(), ErrorCode.VIDEO_WRITER_FAILED)
    assert "code 1" in str(end.details["last_lines"])
    assert end.latents is not None
    assert end.latents.exists()
    monkeypatch.undo()
    again = DecodeLatents(end.latents, command.output, command.model)
    assert isinstance(Run(again, tmp_path / "jobs")(), JobFinished)


def test_a_transformer_that_breaks_down_is_named(command: GenerateVideo, tmp_path: Path) -> None:
    broken = shutil.copytree(command.model, tmp_path / "broken")
    file = broken / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    content[-4000:] = np.full(1000, np.nan, np.float32).tobytes()
    file.write_bytes(content)
    run = Run(dataclasses.replace(command, model=broken), tmp_path / "jobs")
    assert "not all of its values are finite" in str(assert_failed(run(), ErrorCode.MODEL_INVALID).details["reason"])


def test_an_unexpected_fault_has_its_traceback(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.render.to_bgrx", lambda rgb: {}[rgb.shape])
    end = assert_failed(Run(command, tmp_path / "jobs")(), ErrorCode.UNEXPECTED)
    assert "Traceback" in end.technical
    assert "in bytes_of" in end.technical
    assert "KeyError" in str(end.details["reason"])
    assert end.latents is not None
    assert end.latents.exists()


def test_a_card_that_broke_down_does_not_hide_the_end(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fault on the card every call to it fails, the one that gives memory back as well."""

    def refuse(_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("engine.engine.release_memory", refuse)
    run = Run(dataclasses.replace(command, model=tmp_path / "nothing"), tmp_path / "jobs")
    assert_failed(run(), ErrorCode.MODEL_NOT_FOUND)


CANCEL_POINTS = [(Stage.SAMPLE, 1), (Stage.DECODE, 0), (Stage.DECODE, 1), (Stage.ENCODE, FRAMES)]


@pytest.mark.parametrize(("stage", "done"), CANCEL_POINTS)
def test_cancel_leaves_nothing_half_done(command: GenerateVideo, tmp_path: Path, stage: Stage, done: int) -> None:
    def cancel_there(event: Event) -> None:
        if isinstance(event, StageProgressed) and (event.stage, event.done) == (stage, done):
            run.cancel.set()

    run = Run(command, tmp_path / "jobs", cancel_there)
    end = run()
    assert isinstance(end, JobCancelled), end
    assert (end.latents is not None) == (stage is not Stage.SAMPLE)
    assert not command.output.exists()
    assert_no_part_and_no_ffmpeg(command.output.parent)
    kept = ["command.json", "ended.json", "job.lock"]
    kept.append("sampling.safetensors" if stage is Stage.SAMPLE else "latents.safetensors")
    assert end.kept_steps == (1 if stage is Stage.SAMPLE else 0)
    assert [kept_in(folder) for folder in (tmp_path / "jobs").iterdir()] == [kept]
    left = {"video-writer", "ffmpeg-listener", "peak-memory"} & {thread.name for thread in threading.enumerate()}
    assert left == set()


@pytest.mark.slow
@pytest.mark.parametrize("stage", [Stage.SAMPLE, Stage.DECODE])
def test_cancel_acts_at_once_on_a_larger_clip(command: GenerateVideo, tmp_path: Path, stage: Stage) -> None:
    """Within 300 ms is the promise; three times that, in this process's own time, so that other load does not count.

    By the clock on the wall it is 2 seconds, for a path that sleeps takes no time of its own.
    """
    asked = [0.0, 0.0]

    def ask() -> None:
        asked[:] = time.process_time(), time.monotonic()
        run.cancel.set()

    def ask_soon(event: Event) -> None:
        if isinstance(event, StageProgressed) and event.stage is stage and event.done == 0:
            threading.Timer(0.25, ask).start()

    large = dataclasses.replace(command, width=256, height=256, frames=33, steps=1 if stage is Stage.DECODE else 1000)
    run = Run(large, tmp_path / "jobs", ask_soon)
    assert isinstance(run(), JobCancelled)
    assert time.process_time() - asked[0] < 0.9
    assert time.monotonic() - asked[1] < 2


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import DecodeMode, DecodeSettings, GenerateVideo
from engine.engine import Engine
from engine.events import LatentsSaved

def emit(event):
    if isinstance(event, LatentsSaved):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 30 * 2**20,) * 2)
    last[:] = [event]

last = []
whole = DecodeSettings(DecodeMode.WHOLE, chunk_latents=9)
command = GenerateVideo("x", Path(sys.argv[2]) / "o.mp4", Path(sys.argv[1]), frames=33, steps=1, decode=whole)
Engine(Path(sys.argv[2]) / "jobs").run(command, emit, Canvas(), CancelFlag())
print(last[0].code, last[0].details, last[0].latents.exists())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_memory_that_runs_out_in_decoding(tiny_model: Path, tmp_path: Path) -> None:
    """A real refusal of the allocator: the process may grow by only 30 MiB after sampling."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, tiny_model, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[0] == "out_of_memory", done.stdout + done.stderr
    assert "'stage': <Stage.DECODE: 'decode'>} True" in done.stdout
