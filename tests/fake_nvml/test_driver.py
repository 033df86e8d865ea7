"""The stand-in driver needs a compiler, which Windows does not bring along."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.fake_nvml import driver


def test_windows_without_a_compiler_skips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(pytest.skip.Exception):
        driver.build(tmp_path)


def test_elsewhere_a_missing_compiler_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        driver.build(tmp_path)
