"""The inspector on a real thread: file by file, broken off at once, and deaf to nothing that a drive may do."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication, QObject, QThread, Signal, Slot
from pytestqt.qtbot import QtBot

from desktop.model_inspector import ModelInspector
from desktop.state.found_models import FoundFile, Search
from engine.commands import EMBEDDED_MODEL
from engine.errors import EngineError
from engine.weights.families import Role
from engine.weights.inspect import FileReport, FolderReport, inspect
from tests.desktop.model_folders import HIGH, LORA_14B, LORA_SMALL, REFUSED, VAE_21, put

MODEL = EMBEDDED_MODEL / "diffusion_pytorch_model.safetensors"


class Listener(QObject):
    """Stands on the UI thread for the window."""

    search = Signal(object)
    judge = Signal(object)

    def __init__(self) -> None:
        super().__init__()
        self.inspector = ModelInspector()
        self.thread_of_files = QThread()
        self.thread_of_files.setObjectName("files")
        self.inspector.moveToThread(self.thread_of_files)
        self.files: list[FoundFile] = []
        self.refused: list[EngineError] = []
        self.tokenizers: list[Path] = []
        self.ended: list[tuple[Search, str]] = []
        self.judged: list[tuple[Path, FoundFile | None, int]] = []
        self.search.connect(self.inspector.search)
        self.judge.connect(self.inspector.judge)
        self.inspector.file_found.connect(self.take_file)
        self.inspector.file_refused.connect(self.take_refused)
        self.inspector.tokenizer_found.connect(self.take_tokenizer)
        self.inspector.search_ended.connect(self.take_end)
        self.inspector.file_judged.connect(self.take_judgement)

    @Slot(object, object)
    def take_file(self, search: Search, file: FoundFile) -> None:
        self.files.append(file)

    @Slot(object, object)
    def take_refused(self, search: Search, error: EngineError) -> None:
        self.refused.append(error)

    @Slot(object, object)
    def take_tokenizer(self, search: Search, file: Path) -> None:
        self.tokenizers.append(file)

    @Slot(object, str)
    def take_end(self, search: Search, problem: str) -> None:
        self.ended.append((search, problem))

    @Slot(object, object)
    def take_judgement(self, path: Path, found: FoundFile | None) -> None:
        self.judged.append((path, found, len(self.files)))


@pytest.fixture
def listener(qtbot: QtBot) -> Iterator[Listener]:
    made = Listener()
    made.thread_of_files.start()
    yield made
    made.thread_of_files.quit()
    assert made.thread_of_files.wait(5000)


def look(listener: Listener, qtbot: QtBot, place: Path) -> str:
    """Search a place to its end; returns why it could not be read."""
    search = Search(place)
    listener.search.emit(search)
    qtbot.waitUntil(lambda: any(ended is search for ended, _ in listener.ended))
    return listener.ended[-1][1]


def copies(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        shutil.copy(MODEL, folder / f"{i:02}.safetensors")
    return folder


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that takes its time for every file."""

    def inspect_here(path: Path) -> FileReport | FolderReport:
        time.sleep(0.03)
        return inspect(path)

    monkeypatch.setattr("desktop.model_inspector.inspect", inspect_here)


def test_the_embedded_model_is_found_whole(listener: Listener, qtbot: QtBot) -> None:
    assert look(listener, qtbot, EMBEDDED_MODEL) == ""
    assert {file.role for file in listener.files} == {Role.TRANSFORMER, Role.VAE, Role.TEXT_ENCODER}
    assert listener.tokenizers == [EMBEDDED_MODEL / "spiece.model"]
    assert not listener.refused
    transformer = next(file for file in listener.files if file.is_model)
    assert transformer.has_config
    assert transformer.path == MODEL


def test_what_only_loading_needs_is_left_out(listener: Listener, qtbot: QtBot, tmp_path: Path) -> None:
    put(tmp_path, HIGH)
    look(listener, qtbot, tmp_path)
    model = listener.files[0].model
    assert (model.sources, model.header) == ({}, {})
    assert listener.files[0].report.card["as_stored"] == model.bytes_on_disk > 28e9


def test_files_below_and_refused_ones(listener: Listener, qtbot: QtBot, tmp_path: Path) -> None:
    put(tmp_path, VAE_21, LORA_14B, LORA_SMALL, REFUSED)
    (tmp_path / "notes.txt").write_text("no model")
    (tmp_path / "folder.safetensors").mkdir()
    assert look(listener, qtbot, tmp_path) == ""
    assert [file.path for file in listener.files] == [tmp_path / each for each in (LORA_SMALL, LORA_14B, VAE_21)]
    assert [error.details["file"] for error in listener.refused] == [str(tmp_path / REFUSED)]
    assert listener.refused[0].details["reason"]


def test_what_inspection_should_not_raise_stops_nothing(
    listener: Listener, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, LORA_14B, LORA_SMALL)

    def inspect_here(path: Path) -> FileReport | FolderReport:
        if path == tmp_path / LORA_SMALL:
            raise RecursionError("too deep")
        return inspect(path)

    monkeypatch.setattr("desktop.model_inspector.inspect", inspect_here)
    look(listener, qtbot, tmp_path)
    assert [file.path for file in listener.files] == [tmp_path / LORA_14B]
    assert "too deep" in str(listener.refused[0].details["reason"])


def test_a_place_that_is_not_there_is_told_in_the_systems_words(
    listener: Listener, qtbot: QtBot, tmp_path: Path
) -> None:
    assert look(listener, qtbot, tmp_path / "unplugged") == os.strerror(2)
    assert look(listener, qtbot, MODEL) == "", "a single file is a place as well"
    assert [file.path for file in listener.files] == [MODEL]


@pytest.mark.usefixtures("slow")
def test_a_search_that_is_given_up_ends_at_once_and_without_a_word(
    listener: Listener, qtbot: QtBot, tmp_path: Path
) -> None:
    search, other = Search(copies(tmp_path / "many", 40)), Search(EMBEDDED_MODEL)
    listener.search.emit(search)
    listener.search.emit(other)
    qtbot.waitUntil(lambda: bool(listener.files))
    search.cancel.set()
    qtbot.waitUntil(lambda: bool(listener.ended))
    assert [ended for ended, _ in listener.ended] == [other]
    assert sum(file.path.parent == search.place for file in listener.files) < 40


@pytest.mark.usefixtures("slow")
def test_results_come_one_by_one_and_questions_are_answered_in_between(
    listener: Listener, qtbot: QtBot, tmp_path: Path
) -> None:
    put(tmp_path, LORA_14B)
    listener.search.emit(Search(copies(tmp_path / "many", 30)))
    qtbot.waitUntil(lambda: bool(listener.files))
    listener.judge.emit(tmp_path / LORA_14B)
    listener.judge.emit(tmp_path / "nothing.pt")
    qtbot.waitUntil(lambda: len(listener.judged) == 2)
    (_, lora, files_before), (_, nothing, _) = listener.judged
    assert lora is not None
    assert lora.role is Role.LORA
    assert nothing is None
    assert files_before < 30


@pytest.mark.usefixtures("slow")
def test_the_thread_ends_between_two_files(qtbot: QtBot, tmp_path: Path) -> None:
    listener = Listener()
    listener.thread_of_files.start()
    listener.search.emit(Search(copies(tmp_path / "many", 60)))
    qtbot.waitUntil(lambda: bool(listener.files))
    listener.thread_of_files.quit()
    assert listener.thread_of_files.wait(1000)
    QCoreApplication.processEvents()
    assert len(listener.files) < 60


@pytest.mark.skipif(sys.platform == "win32", reason="links need a permission there")
def test_folders_that_contain_themselves_are_seen_once(listener: Listener, qtbot: QtBot, tmp_path: Path) -> None:
    models = put(tmp_path / "models", LORA_14B)
    (models / "again").symlink_to(models)
    (models / "elsewhere").symlink_to(put(tmp_path / "disk", LORA_SMALL))
    (models / "broken.safetensors").symlink_to(tmp_path / "gone")
    look(listener, qtbot, models)
    assert [file.path.name for file in listener.files] == [Path(each).name for each in (LORA_SMALL, LORA_14B)]
    assert not listener.refused
