"""The command line in a process of its own; shared by its tests."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


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


def events_of(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines)
