"""Builds the stand-in driver and lets a test write its readings; the road from there on is the real pynvml."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30


def build(folder: Path) -> Path:
    """Compile the stand-in into `folder`. Raises CalledProcessError with the compiler's words shown.

    Skips the test on Windows without gcc; elsewhere a compiler is required, so that no machine skips unnoticed.
    """
    if sys.platform == "win32" and shutil.which("gcc") is None:
        pytest.skip("no gcc to build the stand-in driver with")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
    return library


class FakeDriver:
    """The readings of the stand-in driver; every write acts on the next call."""

    def __init__(self, library: Path, state_file: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._state_file = state_file
        self.lines: list[str] = []

    def write(self, *lines: str) -> None:
        """Replace the whole state."""
        self.lines = list(lines)
        self._state_file.write_text("\n".join(lines) + "\n")

    def open_sessions(self) -> int:
        """Sessions that were initialised and not shut down."""
        return int(self._library.fake_open_sessions())

    def install(self) -> None:
        """Make pynvml use this library instead of looking for one."""
        pynvml.nvmlLib = self._library
        pynvml._nvmlGetFunctionPointer_cache.clear()


def card(pci: str, total: int = 24 * GIB, used: int = 2 * GIB, reserved: int = GIB // 4, uuid: str = "GPU-aa") -> str:
    """One card's line of the state file; sizes in bytes."""
    return f"card {pci} {uuid} {total} {used} {reserved}"
