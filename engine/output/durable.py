"""Files that are whole under their name or not there at all, and that are on the disk once they are.

What is written has a temporary name, is flushed to the disk and renamed, so that a name never stands for half a
file, whatever happens to the process or the power.
"""

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import EngineError, ErrorCode

UNFINISHED = ".tmp"  # after the name of a file that is being written


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an operating system error about `path` into OUTPUT_NOT_WRITABLE."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise EngineError(ErrorCode.OUTPUT_NOT_WRITABLE, path=str(path), reason=reason) from error


def write_durably(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make `path` hold what `write` writes, whole or not at all, and on the disk when this returns."""
    temporary = path.with_name(path.name + UNFINISHED)
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def put_in_place(part: Path, output: Path) -> None:
    """Bring the finished file `part` to the disk and give it the name `output`. Raises OUTPUT_NOT_WRITABLE.

    A file that only cannot have this name (Windows: a player holds the old one) took too long to make to be thrown
    away: it is kept under a free name beside `output`, and the reason says so.
    """
    with disk_errors(output):
        _flush_file(part)
        try:
            part.replace(output)
        except OSError as error:
            kept = _kept(part, output)
            raise OSError(error.errno, f"{error.strerror}; the finished file is kept as {kept.name}") from error
        finally:
            flush_folder(output.parent)


def _flush_file(file: Path) -> None:
    """Bring `file` to the disk; one that cannot be is removed, since some of it may be missing."""
    try:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            file.unlink()
        raise


def _kept(part: Path, output: Path) -> Path:
    """`part` under a free name like `NAME (2).mp4`; where even that is refused, it stays where it is."""
    numbered = (output.with_stem(f"{output.stem} ({number})") for number in itertools.count(2))
    try:
        return part.rename(next(name for name in numbered if not name.exists()))
    except OSError:
        return part


def make_folders(folder: Path) -> None:
    """Make `folder` and those above it that are missing, and bring their names to the disk."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Bring renames inside `folder` to the disk, where the system can; Windows orders them itself.

    Some file systems refuse to flush a folder, and one may be writable without being readable. The files in it are
    safe then, so this is no reason for a job to fail.
    """
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
