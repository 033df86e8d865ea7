"""Looks into model files; lives on a thread of its own, because a folder may be large and its drive slow."""

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot

from desktop.state.found_models import FoundFile, Search, without_tensors
from engine.errors import EngineError, ErrorCode
from engine.weights.complete import CONFIG
from engine.weights.inspect import FileReport, inspect
from engine.weights.model_files import TOKENIZER_FILES, walk_models


class ModelInspector(QObject):
    """Tells what it finds file by file, and between two files answers what else it is asked.

    A search is broken off by its cancel flag, the only thing of it that other threads touch.
    """

    file_found = Signal(object, object)  # Search, FoundFile
    tokenizer_found = Signal(object, object)  # Search, Path
    file_refused = Signal(object, object)  # Search, EngineError
    search_ended = Signal(object, str)  # Search, why the place could not be read
    file_judged = Signal(object, object)  # Path, FoundFile | None
    _step_due = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._searches: deque[tuple[Search, Iterator[Path]]] = deque()
        # Queued, so that what was asked meanwhile comes first, and the thread can end between two files.
        self._step_due.connect(self._step, Qt.ConnectionType.QueuedConnection)

    @Slot(object)
    def search(self, search: Search) -> None:
        """Look at every file of a place, in its turn. A search that was given up ends without a word."""
        self._searches.append((search, walk_models(search.place)))
        if len(self._searches) == 1:
            self._step_due.emit()

    @Slot(object)
    def judge(self, path: Path) -> None:
        """Tell what a single file is; None for one that is no model, whatever it may be besides."""
        answer = _answer(path)
        self.file_judged.emit(path, answer if isinstance(answer, FoundFile) else None)

    @Slot()
    def _step(self) -> None:
        search, files = self._searches[0]
        if search.cancel.is_set() or not self._look_at_next(search, files):
            self._searches.popleft()
        if self._searches:
            self._step_due.emit()

    def _look_at_next(self, search: Search, files: Iterator[Path]) -> bool:
        """Whether there was one more file."""
        problem = ""
        try:
            file = next(files, None)
        except OSError as error:
            file, problem = None, error.strerror or str(error)
        if file is None:
            self.search_ended.emit(search, problem)
            return False
        self._look_at(search, file)
        return True

    def _look_at(self, search: Search, file: Path) -> None:
        if file.name in TOKENIZER_FILES:
            self.tokenizer_found.emit(search, file)
            return
        answer = _answer(file)
        if isinstance(answer, FoundFile):
            self.file_found.emit(search, answer)
        else:
            self.file_refused.emit(search, answer)


def _answer(file: Path) -> FoundFile | EngineError:
    """What `file` is, or why it is nothing that can be used."""
    try:
        report = inspect(file)
    except EngineError as error:
        return error if "file" in error.details else _refused(file, str(error))
    except Exception as error:
        # Nobody above could handle it, and the files that come after this one are none the worse.
        return _refused(file, f"{type(error).__name__}: {error}")
    assert isinstance(report, FileReport)  # of a file
    return FoundFile(without_tensors(report), file.with_name(CONFIG).is_file())


def _refused(file: Path, reason: str) -> EngineError:
    return EngineError(ErrorCode.MODEL_INVALID, file=str(file), reason=reason)
