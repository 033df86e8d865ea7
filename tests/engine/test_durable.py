"""Files appear whole or not at all, and what makes them durable is asked for, but not insisted upon."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.commands import GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.output.durable import make_folders, put_in_place, write_durably
from engine.output.job_folder import JobFolder
from tests.engine.video_reading import read_frames
from tests.engine.video_writing import patches, write

COMMAND = GenerateVideo("x", Path("out.mp4"))


def write_new(path: Path) -> None:
    write_durably(path, lambda file: file.write(b"new"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(_: object) -> None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_durably(path, fail)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def refuse_folders(descriptor: int) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(22, "Invalid argument")


def test_file_systems_that_cannot_flush_a_folder_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems answer so; the files themselves are on the disk."""
    monkeypatch.setattr("os.fsync", refuse_folders)
    assert JobFolder.create(tmp_path / "jobs", COMMAND).path.is_dir()
    write(tmp_path / "out.mp4", patches(2))
    assert len(read_frames(tmp_path / "out.mp4", 64, 48)) == 2


def refuse_everything(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_file_that_cannot_be_flushed_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, output = tmp_path / "out.mp4.part", tmp_path / "out.mp4"
    part.write_bytes(b"new")
    output.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", refuse_everything)
    with pytest.raises(EngineError, match="No space left") as caught:
        put_in_place(part, output)
    assert caught.value.code is ErrorCode.OUTPUT_NOT_WRITABLE
    with pytest.raises(OSError, match="No space left"):
        write_new(output)
    assert output.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_a_finished_file_that_no_name_is_free_for_stays_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner that holds the part itself, on Windows."""

    def refuse(*_: object) -> None:
        raise PermissionError(13, "in use")

    part = tmp_path / "out.mp4.part"
    part.write_bytes(b"new")
    monkeypatch.setattr("os.replace", refuse)
    monkeypatch.setattr("os.rename", refuse)
    with pytest.raises(EngineError, match=r"in use; the finished file is kept as out\.mp4\.part"):
        put_in_place(part, tmp_path / "out.mp4")
    assert part.read_bytes() == b"new"


def names_when_flushed(folder: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], object]) -> list[list[str]]:
    """What was in `folder` each time that it was flushed while `make` ran."""
    flushed: list[list[str]] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
            flushed.append(sorted(file.name for file in folder.iterdir()))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", note)
    make()
    return flushed


@pytest.mark.skipif(sys.platform == "win32", reason="flushes no folders")
def test_a_new_job_folder_is_in_its_folder_on_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = tmp_path / "jobs"
    made: list[JobFolder] = []
    flushed = names_when_flushed(jobs, monkeypatch, lambda: made.append(JobFolder.create(jobs, COMMAND)))
    assert [made[0].path.name] in flushed


@pytest.mark.skipif(sys.platform == "win32", reason="flushes no folders")
def test_folders_that_were_missing_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names_when_flushed(tmp_path, monkeypatch, lambda: make_folders(tmp_path / "a" / "b")) == [["a"]]
    assert names_when_flushed(tmp_path / "a", monkeypatch, lambda: make_folders(tmp_path / "a" / "c")) == [["b", "c"]]
    assert names_when_flushed(tmp_path, monkeypatch, lambda: make_folders(tmp_path / "a")) == []
