"""The main job, run by itself: what `--demo` adds to the window; UI thread."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QCoreApplication, QObject, QTimer, Slot

from desktop.app import App
from desktop.failure_words import Details, failure_text
from engine.errors import EngineError, ErrorCode
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
    """Starts the job once the window stands, and reports how it ended; `exit_code` is 0 once the video is complete."""

    def __init__(self, app: App, options: DemoOptions) -> None:
        super().__init__(app)
        self._app = app
        self._options = options
        self.exit_code = 1
        app.bridge.job_finished.connect(self._finish)
        app.bridge.job_cancelled.connect(self._end_cancelled)
        app.bridge.job_failed.connect(self._fail)

    def start(self) -> None:
        """Fill in the panel and press the button, so to speak."""
        prompt = self._app.prompt
        prompt.change(replace(prompt.values, prompt=PROMPT, seed=SEED))
        try:
            command = prompt.command(Path())
            output = self._options.output or self._app.jobs.new_output(command)
        except EngineError as error:
            self._app.show_problem(error)
            self._tell(error.code, error.details, None, str(error))
            self._end(1)
        else:
            self._app.jobs.submit(replace(command, output=output.absolute()))

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
        self._tell(event.code, event.details, event.latents, event.technical)
        self._end(1)

    def _tell(self, code: ErrorCode, details: Details, latents: Path | None, technical: str) -> None:
        text = failure_text(code, details, latents)
        print(f"{text.title} {text.advice}\n{technical}", file=sys.stderr)

    def _end(self, exit_code: int) -> None:
        self.exit_code = exit_code
        # Jobs that the person starts from now on are not the demo's.
        self._app.bridge.job_finished.disconnect(self._finish)
        self._app.bridge.job_cancelled.disconnect(self._end_cancelled)
        self._app.bridge.job_failed.disconnect(self._fail)
        QTimer.singleShot(SETTLE_MS, self, self._photograph_and_quit)

    @Slot()
    def _photograph_and_quit(self) -> None:
        if self._options.screenshot is not None and not self._app.window.grab().save(str(self._options.screenshot)):
            print(f"cannot write {self._options.screenshot}", file=sys.stderr)
            self.exit_code = 1
        if self._options.quit_when_done:
            QCoreApplication.quit()
