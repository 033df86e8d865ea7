"""What was found in the places where the person keeps models; lives on the UI thread, fed by the inspector."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from engine.cancel import CancelFlag
from engine.errors import EngineError
from engine.weights.families import Role
from engine.weights.identify import Description
from engine.weights.inspect import FileReport
from engine.weights.runnable import RunRefusal, why_not_runnable

SETTLE_MS = 60  # hundreds of small files are read in a second, and one picture of them is enough


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A checkpoint, without the lists of its tensors. `has_config`: whether a `config.json` lies beside it."""

    report: FileReport
    has_config: bool = False

    @property
    def path(self) -> Path:
        """The file, or the first of its files."""
        return self.report.files[0]

    @property
    def model(self) -> Description:
        """What it is."""
        return self.report.model

    @property
    def role(self) -> Role:
        """What it is for."""
        return self.report.model.role

    @property
    def refusal(self) -> RunRefusal | None:
        """Why it cannot be used, if it cannot."""
        return why_not_runnable(self.report.model)

    @property
    def is_model(self) -> bool:
        """Whether it is the network that a person chooses first, to which the others are parts."""
        return "head.head.bias" in self.report.model.family.expected


def without_tensors(report: FileReport) -> FileReport:
    """`report` without what only loading needs, which would take a megabyte for each of hundreds of files."""
    return replace(report, model=replace(report.model, sources={}, header={}))


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """One look at a place, a folder or a file; told from others of the same place by its identity."""

    place: Path
    cancel: CancelFlag = field(default_factory=CancelFlag)


@dataclass(slots=True)
class Place:
    """What a search has found so far; `problem` is why the place itself cannot be read."""

    search: Search
    files: list[FoundFile] = field(default_factory=list)
    refused: list[EngineError] = field(default_factory=list)
    tokenizers: list[Path] = field(default_factory=list)
    is_searching: bool = True
    problem: str = ""

    @property
    def path(self) -> Path:
        """The folder or the file."""
        return self.search.place


class FoundModels(QObject):
    """The places in the order in which they were chosen. Results of a search that was given up are left alone."""

    changed = Signal()  # soon after something was found
    places_changed = Signal()
    search_requested = Signal(object)  # Search
    search_ended = Signal(object)  # Path of the place

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.places: list[Place] = []
        self._by_path: dict[Path, FoundFile] | None = None  # made when it is asked for
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.changed)

    @property
    def is_searching(self) -> bool:
        """Whether more may be found yet."""
        return any(place.is_searching for place in self.places)

    def files(self) -> Iterable[FoundFile]:
        """Every file once, even if several places hold it."""
        return self._index_files().values()

    def file(self, path: Path) -> FoundFile | None:
        """What was found at `path`."""
        return self._index_files().get(path)

    def refused(self) -> Iterator[EngineError]:
        """Why files are no model that can be used, each once."""
        return iter({error.details["file"]: error for place in self.places for error in place.refused}.values())

    def tokenizers(self) -> list[Path]:
        """Every file of a tokenizer."""
        return list(dict.fromkeys(file for place in self.places for file in place.tokenizers))

    def add_place(self, path: Path) -> None:
        """Look at `path`; one that is there already is looked at again."""
        known = self._index(path)
        place = Place(Search(path))
        if known is None:
            self.places.append(place)
        else:
            self.places[known].search.cancel.set()
            self.places[known] = place
        self._tell()
        self.search_requested.emit(place.search)

    def remove_place(self, path: Path) -> None:
        """Forget `path` and what was found there."""
        known = self._index(path)
        if known is not None:
            self.places.pop(known).search.cancel.set()
            self._tell()

    def search_again(self) -> None:
        """Look at all places anew."""
        for path in [place.path for place in self.places]:
            self.add_place(path)

    def close(self) -> None:
        """Give up all searches."""
        self._settle.stop()
        for place in self.places:
            place.search.cancel.set()

    @Slot(object, object)
    def add_file(self, search: Search, file: FoundFile) -> None:
        """A checkpoint was found."""
        if place := self._place(search):
            place.files.append(file)
            self._by_path = None
            self._tell_soon()

    @Slot(object, object)
    def add_tokenizer(self, search: Search, file: Path) -> None:
        """The file of a tokenizer was found."""
        if place := self._place(search):
            place.tokenizers.append(file)
            self._tell_soon()

    @Slot(object, object)
    def add_refused(self, search: Search, error: EngineError) -> None:
        """A file was found that cannot be used."""
        if place := self._place(search):
            place.refused.append(error)
            self._tell_soon()

    @Slot(object, str)
    def end_search(self, search: Search, problem: str) -> None:
        """All has been seen; `problem` tells, in the system's words, why nothing could be."""
        if place := self._place(search):
            place.is_searching, place.problem = False, problem
            self._settle.stop()
            self.changed.emit()
            self.search_ended.emit(place.path)

    def _index(self, path: Path) -> int | None:
        return next((i for i, place in enumerate(self.places) if place.path == path), None)

    def _place(self, search: Search) -> Place | None:
        return next((place for place in self.places if place.search is search), None)

    def _index_files(self) -> dict[Path, FoundFile]:
        if self._by_path is None:
            self._by_path = {file.path: file for place in self.places for file in place.files}
        return self._by_path

    def _tell(self) -> None:
        self._by_path = None
        self._settle.stop()
        self.places_changed.emit()
        self.changed.emit()

    def _tell_soon(self) -> None:
        if not self._settle.isActive():
            self._settle.start()
