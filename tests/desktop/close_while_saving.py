"""The program as it is started, with somebody who closes its window while the video is being saved.

`python -m tests.desktop.close_while_saving ARGUMENTS OF desktop`. ffmpeg is held as soon as it runs, so that saving
cannot end before the window is closed, on however fast a machine.
"""

import contextlib
import sys
from dataclasses import replace
from unittest.mock import patch

import psutil
from PySide6.QtCore import QObject, QTimer, Slot
from PySide6.QtWidgets import QMessageBox

from desktop import __main__ as program
from desktop.app import App

LOOK_MS = 5


class Somebody(QObject):
    """Waits for ffmpeg, closes the window, and answers the question with "Stop and close"."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._app = app
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._look)
        self._timer.start(LOOK_MS)

    @Slot()
    def _look(self) -> None:
        for child in psutil.Process().children():
            if is_saving(child):
                child.suspend()
                self._timer.stop()
                self._app.window.close()
                QTimer.singleShot(100, self, self._answer)

    @Slot()
    def _answer(self) -> None:
        question = self._app.window.findChild(QMessageBox)
        assert isinstance(question, QMessageBox)
        print("closing while", self._app.job.stage, flush=True)
        next(each for each in question.buttons() if each.text() == "Stop and close").click()


def is_saving(process: psutil.Process) -> bool:
    """Whether this is the ffmpeg that writes the video; another one is only asked for its version and may be gone."""
    with contextlib.suppress(psutil.Error):
        return any(word.endswith(".part") for word in process.cmdline())
    return False


def main() -> int:
    """Run the program with `Somebody` at it."""
    start = App.start

    def start_watched(app: App, *, with_chosen_model: bool) -> None:
        start(app, with_chosen_model=with_chosen_model)
        Somebody(app)
        # What comes before saving only has to be short; the demo keeps the settings that it finds.
        app.prompt.change(replace(app.prompt.values, frames=5, steps=1))

    with patch.object(App, "start", start_watched):
        return program.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
