"""The command line in processes of its own: MP4s, exit codes, signals, a kill and a full disk."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.cli import main
from tests.engine.video_reading import read_frames, read_tag


def engine_process(*arguments: str | Path, own_group: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=own_group,
    )


def engine(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    process = engine_process(*arguments)
    out, error = process.communicate(timeout=600)  # two busy cores can be very slow
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def generate_arguments(model: Path, folder: Path, size: str = "64x48", frames: int = 9) -> list[str | Path]:
    return [
        "generate", "a red ball", "--model", model, "--size", size, "--frames", str(frames), "--steps", "2",
        "--jobs", folder / "jobs", "-o", folder / "clip.mp4",
    ]  # fmt: skip


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines)


def test_the_command_line_makes_a_video(tiny_model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(tiny_model, tmp_path), "--json", "--seed", "5", "--solver", "euler")
    assert done.returncode == 0, done.stderr
    events = list(events_of(iter(done.stdout.splitlines())))
    assert (events[0]["event"], events[-1]["event"]) == ("JobStarted", "JobFinished")
    assert read_frames(tmp_path / "clip.mp4", 64, 48).shape == (9, 48, 64, 3)
    comment = json.loads(read_tag(tmp_path / "clip.mp4", "comment") or "")
    assert comment["command"]["seed"] == 5
    assert comment["command"]["solver"] == "euler"


def test_plain_output_is_for_people(tiny_model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(tiny_model, tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "clip.mp4" in done.stderr.splitlines()[-1]
    assert "sampling" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
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


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("stage", "number"), [("sample", signal.SIGINT), ("decode", signal.SIGINT),
                                               ("decode", signal.SIGTERM)])  # fmt: skip
def test_interrupt_cancels_cleanly(tiny_model: Path, tmp_path: Path, stage: str, number: signal.Signals) -> None:
    """The signal goes to the whole process group, as a terminal sends it."""
    arguments = generate_arguments(tiny_model, tmp_path, "256x256", 33)
    process = engine_process(*arguments, "--json", own_group=True)
    assert process.stdout is not None
    events = events_of(process.stdout)
    next(event for event in events if event["event"] == "StageStarted" and event["stage"] == stage)
    os.killpg(process.pid, number)
    last = list(events)[-1]
    process.communicate()
    assert last["event"] == "JobCancelled"
    assert process.returncode == 130
    assert not (tmp_path / "clip.mp4").exists()
    assert not (tmp_path / "clip.mp4.part").exists()
    if stage == "decode":
        assert Path(last["latents"]).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
def test_a_full_disk_keeps_the_latents(tiny_model: Path, tmp_path: Path) -> None:
    """A disk of 48 KiB: the part fills it, the error says so in ffmpeg's words, and the latents are elsewhere."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=48k tmpfs "$0" && exec "$@"', str(disk)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    arguments = [*generate_arguments(tiny_model, tmp_path, "256x256", 33)[:-1], disk / "clip.mp4", "--json"]
    command = [*mount, sys.executable, "-m", "engine", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    end = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert end["code"] == "video_writer_failed", end
    assert "No space left on device" in end["details"]["last_lines"]
    assert Path(end["latents"]).exists()


def test_impossible_requests_end_with_2(tiny_model: Path, tmp_path: Path) -> None:
    base = generate_arguments(tiny_model, tmp_path)
    for extra, words in (
        (["--size", "65x48"], "Nearest: 64x48"),
        (["--frames", "31"], "Nearest: 29, 33"),
        (["--budget", "1KiB"], "the smallest needs"),
        (["--budget", "much"], "--budget"),
    ):
        done = engine(*base, *extra)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_failures_end_with_1(tiny_model: Path, tmp_path: Path) -> None:
    missing = engine("decode", tmp_path / "none.safetensors", "--model", tiny_model, "-o", tmp_path / "o.mp4")
    assert missing.returncode == 1
    assert "none.safetensors cannot be used" in missing.stderr
    no_model = engine(*generate_arguments(tmp_path / "nowhere", tmp_path))
    assert no_model.returncode == 1
    assert "nowhere" in no_model.stderr


def planned(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["plan", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_plan_for_a_program_and_for_people(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--size", "1280x720", "--frames", "61")
    plain = json.loads(planned(capsys, *size, "--json"))
    tight = json.loads(planned(capsys, *size, "--json", "--budget", "1.2GiB"))
    assert tight["predicted_peak_bytes"] <= 1.2 * 2**30 < plain["predicted_peak_bytes"]
    assert tight["strips"] > 1
    assert f"{tight['strips']} strips of {tight['strip_rows']} rows" in planned(capsys, *size, "--budget", "1.2GiB")
    own = json.loads(planned(capsys, "--size", "64x48", "--frames", "9", "--model", tiny_model, "--json"))
    assert own["predicted_peak_bytes"] < plain["predicted_peak_bytes"] / 50
    assert main(["plan", *size, "--budget", "1MiB"]) == 2
    assert "the smallest needs" in capsys.readouterr().err
