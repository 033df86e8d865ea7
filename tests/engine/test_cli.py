"""The command line in processes of its own: MP4s, plans and exit codes."""

import json
from pathlib import Path

import pytest

from engine.cli import main
from tests.engine.cli_process import engine, events_of, generate_arguments
from tests.engine.video_reading import read_frames, read_tag


def test_the_command_line_makes_a_video(tiny_model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(tiny_model, tmp_path), "--json", "--seed", "5", "--solver", "euler")
    assert done.returncode == 0, done.stderr
    events = list(events_of(done.stdout.splitlines()))
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
