"""Time from process start to the first paint, and how late UI events arrive while a job runs.

Lateness: a 2 ms timer is armed again by the UI loop each time it fires; how much later than asked it fires is how long
an event arriving at that moment waits. While the loop is held up no timer is armed, so the arrivals that were missed
are added (coordinated-omission correction): a stall of S ms counts as S, S - 2, S - 4 ... ms.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PySide6.QtCore import QEventLoop, QObject, QSettings, Qt, QTimer, Slot
from PySide6.QtWidgets import QApplication

from desktop.__main__ import prepare_process
from desktop.app import App
from desktop.settings import Settings
from desktop.state.model import open_prompt
from desktop.worker import load_engine
from engine.commands import EMBEDDED_MODEL
from tests.desktop.scripted_engine import Script, ScriptedEngine

INTERVAL_MS = 2.0
STARTS = 5


def add_to(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command line."""
    parser = benchmarks.add_parser("ui", help="start-up to first paint, and event latency during a job")
    parser.add_argument("--model", type=Path, help="folder of the model (default: the embedded one)")
    parser.add_argument("--scripted", action="store_true", help="replay a job instead of computing one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=("start", "job"), help=argparse.SUPPRESS)  # what the child processes do
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """One fresh process a measurement; print the figures."""
    if options.one is not None:
        print(json.dumps(measure_start() if options.one == "start" else measure_job(options)))
        return 0
    starts = [_child("--one", "start")["first_paint_ms"] for _ in range(STARTS)]
    chosen = ["--scripted"] * options.scripted + (["--model", str(options.model)] if options.model else [])
    report = {"first_paint_ms": starts, **_child("--one", "job", *chosen)}
    print(json.dumps(report) if options.json else _table(report))
    return 0


def _child(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench", "ui", *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def _table(report: dict[str, Any]) -> str:
    starts = sorted(report["first_paint_ms"])
    return (
        f"first paint after process start: best {starts[0]:.0f} ms, median {starts[len(starts) // 2]:.0f} ms, "
        f"worst {starts[-1]:.0f} ms of {len(starts)}\n"
        f"event latency over {report['seconds']:.1f} s of a job ({report['outcome']}): p50 {report['p50_ms']:.2f} ms, "
        f"p99 {report['p99_ms']:.2f} ms, max {report['max_ms']:.1f} ms"
    )


class LatencyMeter(QObject):
    """Re-arms a precise timer and notes how late it fires; lives on the UI thread."""

    def __init__(self) -> None:
        super().__init__()
        self.late_ms: list[float] = []
        self._timer = QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._note)
        self._armed_at = 0.0

    def start(self) -> None:
        """Begin."""
        self._arm()

    def stop(self) -> None:
        """End."""
        self._timer.stop()

    def corrected_ms(self) -> np.ndarray:
        """Every lateness, with the arrivals that a held-up loop did not measure."""
        missed = [np.arange(late, 0, -INTERVAL_MS) for late in self.late_ms]
        return np.concatenate(missed) if missed else np.zeros(1)

    def _arm(self) -> None:
        self._armed_at = time.perf_counter()
        self._timer.start(int(INTERVAL_MS))

    @Slot()
    def _note(self) -> None:
        self.late_ms.append(max(1e-6, (time.perf_counter() - self._armed_at) * 1000 - INTERVAL_MS))
        self._arm()


def measure_start() -> dict[str, float]:
    """Milliseconds from the start of this process to the first paint of the window."""
    began = psutil.Process().create_time()
    prepare_process()
    app = _build_app(QApplication(["bench"]), argparse.Namespace(scripted=True, model=None), Path(tempfile.mkdtemp()))
    painted: list[float] = []
    app.window.first_painted.connect(lambda: painted.append((time.time() - began) * 1000))
    app.start()
    _spin_until(lambda: bool(painted))
    app.shut_down()
    return {"first_paint_ms": painted[0]}


def measure_job(options: argparse.Namespace) -> dict[str, Any]:
    """Latency while one default job runs, from its first event to its last; the import of torch comes before."""
    prepare_process()
    with tempfile.TemporaryDirectory() as folder:
        app = _build_app(QApplication(["bench"]), options, Path(folder))
        meter = LatencyMeter()
        loaded: list[object] = []
        app.threads.worker.engine_loaded.connect(loaded.append)
        app.start()
        _spin_until(lambda: bool(loaded))
        app.prompt.change(replace(app.prompt.values, prompt="a red ball bouncing on a blue background"))
        began = time.perf_counter()
        app.jobs.submit(app.prompt.command(Path(folder) / "out.mp4"))
        meter.start()
        _spin_until(lambda: not app.job.is_busy)
        meter.stop()
        seconds, outcome = time.perf_counter() - began, app.job.phase.name.lower()
        app.shut_down()
    late = meter.corrected_ms()
    p50, p99 = np.percentile(late, [50, 99])
    return {"seconds": seconds, "outcome": outcome, "p50_ms": p50, "p99_ms": p99, "max_ms": float(late.max())}


def _build_app(qt_app: QApplication, options: argparse.Namespace, folder: Path) -> App:
    scripted = ScriptedEngine(folder, Script(sample_seconds=0.1, strip_seconds=0.02))
    prompt, _ = open_prompt(options.model or EMBEDDED_MODEL)
    settings = Settings(QSettings(str(folder / "settings.ini"), QSettings.Format.IniFormat))
    return App(qt_app, (lambda: (scripted, None)) if options.scripted else load_engine, prompt, settings)


def _spin_until(done: Callable[[], bool]) -> None:
    """Run the real event loop until `done()`, looked at ten times a second."""
    loop = QEventLoop()
    poll = QTimer()
    poll.timeout.connect(lambda: loop.quit() if done() else None)
    poll.start(50)
    loop.exec()
    poll.stop()
