"""The program as it is started: arguments, exit codes, and the main job with a real engine."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from desktop.demo import PROMPT
from engine.presets import read_presets
from resources.mini.evaluate import read_video
from resources.mini.judge import judge
from tests.engine.tiny_model import TRANSFORMER, build_tiny_model

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT_SECONDS = 600


@pytest.fixture(scope="module")
def mini_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the shape of the model that comes along, so that the demo's settings fit."""
    mini = read_presets()["mini"]
    shape = {"dim": mini["dim"], "num_layers": mini["layers"], "patch_size": (1, 4, 4), "text_len": 16, "text_dim": 32}
    return build_tiny_model(tmp_path_factory.mktemp("mini") / "model", dataclasses.replace(TRANSFORMER, **shape))


def popen(folder: Path, *arguments: str, module: str = "desktop") -> "subprocess.Popen[str]":
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config"), "XDG_DATA_HOME": str(folder / "data")}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | home | {"QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    try:
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def start(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return wait(popen(folder, *arguments))


def processes_about(folder: Path) -> list[str]:
    """Whatever runs with `folder` on its command line; ffmpeg's output is there."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(folder) in line]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
    assert processes_about(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the system's folder of videos does not follow HOME there")
def test_a_demo_without_a_place_for_its_video_ends_with_1_and_words(tmp_path: Path, mini_like: Path) -> None:
    (tmp_path / "Videos").touch()  # where the folder of videos would be made
    ended = start(tmp_path, "--demo", "--quit-when-done", "--model", str(mini_like))
    assert ended.returncode == 1, ended.stderr
    assert "The video cannot be saved to" in ended.stderr


@pytest.mark.slow
def test_the_demo_makes_the_video_of_its_prompt_and_ends_with_0(tmp_path: Path) -> None:
    output, picture = tmp_path / "out.mp4", tmp_path / "window.png"
    ended = start(tmp_path, "--demo", "--quit-when-done", "-o", str(output), "--screenshot", str(picture))
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(output)
    seen = judge(read_video(output))
    assert f"a {seen.colour} {seen.shape} {seen.motion} on a {seen.background} background" == PROMPT
    assert picture.stat().st_size > 10_000
    assert not list(tmp_path.glob("*.part"))
    assert processes_about(tmp_path) == []


@pytest.mark.slow
def test_closing_while_the_video_is_saved_leaves_nothing_half_done(tmp_path: Path, mini_like: Path) -> None:
    """With the real engine and ffmpeg; the person is asked and answers "Stop and close"."""
    arguments = ("--demo", "-o", str(tmp_path / "out.mp4"), "--model", str(mini_like))
    ended = wait(popen(tmp_path, *arguments, module="tests.desktop.close_while_saving"))
    assert ended.returncode == 1, ended.stderr
    assert "closing while encode" in ended.stdout, ended.stderr
    assert not list(tmp_path.glob("out*"))
    assert len(list(tmp_path.rglob("latents.safetensors"))) == 1, "what was sampled is kept"
    assert processes_about(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal of Unix")
def test_ctrl_c_in_the_terminal_ends_a_running_demo_with_1(tmp_path: Path, mini_like: Path) -> None:
    process = popen(tmp_path, "--demo", "-o", str(tmp_path / "out.mp4"), "--model", str(mini_like))
    wait_until(lambda: list(tmp_path.rglob("command.json")) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    ended = wait(process)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("out*"))
    assert processes_about(tmp_path) == []
