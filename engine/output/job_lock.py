"""A lock on a file that lasts no longer than the process that holds it, however that ends; any thread.

POSIX `flock`, on Windows the first byte of the file. Ids of processes could not tell as much: systems give them out
anew, and they mean nothing to another machine that shares the folder. Programs that are started do not inherit it.
"""

import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)


class JobLock:
    """A lock that is held from `take` to `release`, or to the end of the process."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    @classmethod
    def take(cls, path: Path) -> "JobLock | None":
        """The lock on the file `path`; None at once when another holds it, or when there is none to be had.

        Some file systems know no locks. There nobody gets one, so that every job counts as one that runs.
        """
        try:
            file = _opened(path)
        except OSError:
            return None
        try:
            _lock(file)
        except OSError:
            file.close()
            return None
        return cls(file)

    def release(self) -> None:
        """Let go of the lock, once."""
        _unlock(self._file)
        self._file.close()


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("r+b")  # network file systems lock only what may be written
    except FileNotFoundError:
        raise
    except OSError:
        return path.open("rb")
