"""Jobs of the command line that are killed, interrupted, no longer listened to, or out of disk."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg
import psutil
import pytest

from engine.cli_job import stop_signals
from tests.engine.cli_process import engine, engine_process, events_of, generate_arguments
from tests.engine.small_disk import on_a_small_disk
from tests.engine.video_reading import read_frames

POSIX_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


def ffmpegs_of(folder: Path) -> list[psutil.Process]:
    """Every ffmpeg of this machine that was told of `folder`, whoever started it."""
    processes = psutil.process_iter(["cmdline"])
    lines = ((process, " ".join(process.info["cmdline"] or ())) for process in processes)
    return [process for process, line in lines if "ffmpeg" in line and str(folder) in line]


def assert_nothing_half_done(folder: Path) -> None:
    assert not (folder / "clip.mp4").exists()
    assert not (folder / "clip.mp4.part").exists()
    assert ffmpegs_of(folder) == []


@POSIX_SIGNALS
def test_killed_between_latents_and_decode(tiny_model: Path, tmp_path: Path) -> None:
    """kill -9 the moment the latents are safe: `decode` finishes the job with nothing but the folder."""
    process = engine_process(*generate_arguments(tiny_model, tmp_path, "256x256", 33), "--json")
    assert process.stdout is not None
    saved = next(event for event in events_of(process.stdout) if event["event"] == "LatentsSaved")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "clip.mp4").exists()
    done = engine(
        "decode", saved["path"], "--model", tiny_model, "--jobs", tmp_path / "jobs", "-o", tmp_path / "again.mp4"
    )
    assert done.returncode == 0, done.stderr
    assert len(read_frames(tmp_path / "again.mp4", 256, 256)) == 33


def slow_ffmpeg(folder: Path) -> Path:
    """ffmpeg that takes no more frames in a second than will be shown in one: 81 of them are five seconds."""
    script = folder / "slow-ffmpeg"
    script.write_text(f'#!/bin/sh\nexec "{imageio_ffmpeg.get_ffmpeg_exe()}" -re "$@"\n')
    script.chmod(0o755)
    return script


INTERRUPTS = [("sample", "SIGINT"), ("decode", "SIGINT"), ("decode", "SIGTERM"), ("decode", "SIGHUP"),
              ("encode", "SIGINT")]  # fmt: skip


@POSIX_SIGNALS
@pytest.mark.parametrize(("stage", "name"), INTERRUPTS)
def test_interrupt_cancels_cleanly(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str
) -> None:
    """The signal goes to the whole process group, as a terminal sends it."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(slow_ffmpeg(tmp_path)))
    size, frames = ("64x48", 81) if stage == "encode" else ("256x256", 33)
    process = engine_process(*generate_arguments(tiny_model, tmp_path, size, frames), "--json", own_group=True)
    assert process.stdout is not None
    events = events_of(process.stdout)
    next(event for event in events if event["event"] == "StageStarted" and event["stage"] == stage)
    assert len(ffmpegs_of(tmp_path)) == (stage != "sample")  # frames are encoded while others are decoded
    os.killpg(process.pid, signal.Signals[name])
    last = list(events)[-1]
    process.communicate()
    assert last["event"] == "JobCancelled"
    assert process.returncode == 130
    assert_nothing_half_done(tmp_path)
    if stage != "sample":
        assert Path(last["latents"]).exists()


@POSIX_SIGNALS
def test_a_job_under_nohup_outlives_its_terminal() -> None:
    assert signal.SIGHUP in stop_signals()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stop_signals() == [signal.SIGINT, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("for_programs", [True, False], ids=["--json", "for people"])
def test_a_job_that_nobody_listens_to_ends_quietly(tiny_model: Path, tmp_path: Path, *, for_programs: bool) -> None:
    """As with `| head -1`: the first line is read, then the pipe is closed."""
    arguments = generate_arguments(tiny_model, tmp_path, "256x256", 33)
    process = engine_process(*arguments, *["--json"] * for_programs)
    heard, other = (process.stdout, process.stderr) if for_programs else (process.stderr, process.stdout)
    assert heard is not None
    assert other is not None
    assert heard.readline()
    heard.close()
    assert other.read() == ""
    assert process.wait() == 130
    other.close()
    assert_nothing_half_done(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
def test_a_full_disk_keeps_the_latents(tiny_model: Path, tmp_path: Path) -> None:
    """A disk of 48 KiB: the part fills it, the error says so in ffmpeg's words, and the latents are elsewhere."""
    disk = tmp_path / "disk"
    mount = on_a_small_disk(disk, "48k")
    arguments = [*generate_arguments(tiny_model, tmp_path, "256x256", 33)[:-1], disk / "clip.mp4", "--json"]
    command = [*mount, sys.executable, "-m", "engine", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    end = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert end["code"] == "video_writer_failed", end
    assert "No space left on device" in end["details"]["last_lines"]
    assert Path(end["latents"]).exists()
