"""The program as it is started: arguments, exit codes, and the main job with a real engine."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from engine.presets import read_presets
from tests.engine.tiny_model import TRANSFORMER, build_tiny_model

ROOT = Path(__file__).resolve().parent.parent.parent


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "data")}
    return subprocess.run(
        [sys.executable, "-m", "desktop", *arguments],
        cwd=ROOT,
        env=os.environ | home | {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_options_that_need_the_demo_say_so(tmp_path: Path) -> None:
    ended = start(tmp_path, "--quit-when-done")
    assert ended.returncode == 2
    assert "--demo" in ended.stderr


def test_a_demo_that_fails_ends_with_1_and_words(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = start(tmp_path, "--demo", "--quit-when-done", "-o", str(tmp_path / "out.mp4"), "--model", str(empty))
    assert ended.returncode == 1, ended.stderr
    assert "The model is not complete" in ended.stderr
    assert not list(tmp_path.glob("out*"))
    assert not [child for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]


@pytest.mark.slow
def test_the_demo_makes_the_whole_video_and_ends_with_0(tmp_path: Path) -> None:
    mini = read_presets()["mini"]
    shape = {"dim": mini["dim"], "num_layers": mini["layers"], "patch_size": (1, 4, 4), "text_len": 16, "text_dim": 32}
    model = build_tiny_model(tmp_path / "model", dataclasses.replace(TRANSFORMER, **shape))
    output, picture = tmp_path / "out.mp4", tmp_path / "window.png"
    files = ("-o", str(output), "--model", str(model), "--screenshot", str(picture))
    ended = start(tmp_path, "--demo", "--quit-when-done", *files)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(output)
    assert b"moov" in output.read_bytes()
    assert picture.stat().st_size > 10_000
    assert not list(tmp_path.glob("*.part"))
