"""The main job, run by itself: what `--demo` adds to the window; UI thread."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QCoreApplication, QObject, QTimer, Slot

from desktop.app import App
from desktop.words import failure_text
from engine.events import JobCancelled, JobFailed, JobFinished

PROMPT = "a red ball bouncing on a blue background"
SEED = 7
SETTLE_MS = 400  # lets the last events reach the screen before it is photographed


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What was asked for on the command line."""

    output: Path | None
    quit_when_done: bool
    screenshot: Path | None


class Demo(QObject):
    """Starts the job once the window stands, and reports how it ended."""

    def __init__(self, app: App, options: DemoOptions) -> None:
        super().__init__(app)
        self._app = app
        self._options = options
        self._exit_code = 0
        app.bridge.job_finished.connect(self._finish)
        app.bridge.job_cancelled.connect(self._end_cancelled)
        app.bridge.job_failed.connect(self._fail)

    def start(self) -> None:
        """Fill in the panel and press the button, so to speak."""
        prompt = self._app.prompt
        prompt.change(replace(prompt.values, prompt=PROMPT, seed=SEED))
        if self._options.output is None:
            self._app.generate()
        else:
            self._app.submit(prompt.command(self._options.output.absolute()))

    @Slot(object)
    def _finish(self, event: JobFinished) -> None:
        print(event.path)
        self._end(0)

    @Slot(object)
    def _end_cancelled(self, event: JobCancelled) -> None:
        print("cancelled", file=sys.stderr)
        self._end(1)

    @Slot(object)
    def _fail(self, event: JobFailed) -> None:
        text = failure_text(event.code, event.details, event.latents)
        print(f"{text.title} {text.advice}\n{event.technical}", file=sys.stderr)
        self._end(1)

    def _end(self, exit_code: int) -> None:
        self._exit_code = exit_code
        QTimer.singleShot(SETTLE_MS, self, self._photograph_and_quit)

    @Slot()
    def _photograph_and_quit(self) -> None:
        if self._options.screenshot is not None and not self._app.window.grab().save(str(self._options.screenshot)):
            print(f"cannot write {self._options.screenshot}", file=sys.stderr)
            self._exit_code = 1
        if self._options.quit_when_done:
            QCoreApplication.exit(self._exit_code)
