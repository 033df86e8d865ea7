"""Starts the window: `python -m desktop [--demo]`. What must be set before Qt and torch are loaded is set here."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from desktop.app import App

INTERRUPTS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # no system has all of them
SWITCH_INTERVAL_SECONDS = 0.001  # a busy engine thread gives the interpreter back to the window this often


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    options = parse(arguments)
    prepare_process()
    return run(options)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m desktop", description="Tessera: video on your own graphics card")
    parser.add_argument("--model", type=Path, help="folder of the model (default: the small one that comes along)")
    parser.add_argument("--demo", action="store_true", help="make a video with the model that comes along, at once")
    parser.add_argument("--quit-when-done", action="store_true", help="with --demo: exit when the video is complete")
    parser.add_argument("-o", "--output", type=Path, help="with --demo: where the MP4 goes")
    parser.add_argument("--screenshot", type=Path, help="with --demo: save a picture of the window at the end")
    options = parser.parse_args(arguments)
    if not options.demo and (options.quit_when_done or options.output or options.screenshot):
        parser.error("--quit-when-done, --output and --screenshot belong to --demo")
    return options


def prepare_process() -> None:
    """Settings that only act before libraries are loaded, or that belong to the whole process."""
    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    # Threads of the numerics library that wait by spinning would take the window's core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")


def run(options: argparse.Namespace) -> int:
    """Build the window and run it to its end."""
    from PySide6.QtCore import QSettings
    from PySide6.QtWidgets import QApplication

    from desktop.app import App
    from desktop.demo import Demo, DemoOptions
    from desktop.settings import Settings
    from desktop.state.model import open_prompt
    from desktop.worker import load_engine
    from engine.commands import EMBEDDED_MODEL

    qt_app = QApplication(["tessera"])
    qt_app.setOrganizationName("Tessera")
    qt_app.setApplicationName("Tessera")
    prompt, problem = open_prompt(options.model or EMBEDDED_MODEL)
    app = App(qt_app, load_engine, prompt, Settings(QSettings()))
    close_on_interrupt(app)
    app.start(with_chosen_model=not options.demo)
    if problem is not None:
        app.show_problem(problem)
    demo = Demo(app, DemoOptions(options.output, options.quit_when_done, options.screenshot)) if options.demo else None
    if demo is not None:
        demo.start()
    exit_code = qt_app.exec()
    if not app.shut_down():
        # A thread that still runs would abort the process in Qt's destructors.
        print("a thread did not stop in time", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    return exit_code if demo is None else demo.exit_code


def close_on_interrupt(app: "App") -> None:
    """Stop and close without asking when the terminal or the system wants the program to end.

    Python runs the handler between two of its own lines, which the beat of the picture brings sixty times a second.
    """
    from PySide6.QtCore import QTimer

    def stop(number: int, frame: FrameType | None) -> None:
        QTimer.singleShot(
            0, app.closing.stop_and_close
        )  # not here: the line may be one of a slot that works on the same

    for name in INTERRUPTS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, stop)


if __name__ == "__main__":
    sys.exit(main())
