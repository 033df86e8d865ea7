"""What the system's file browser is told."""

from pathlib import Path, PureWindowsPath

import pytest
from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from desktop.show_in_folder import explorer_command, show_in_folder


def test_explorer_gets_the_switch_outside_of_the_quotes() -> None:
    """`"/select,C:\\My Videos\\a.mp4"` as one quoted word would open the documents instead."""
    path = PureWindowsPath("C:/My Videos/a red ball-7.mp4")
    assert explorer_command(path) == r'explorer.exe /select,"C:\My Videos\a red ball-7.mp4"'


def test_elsewhere_the_folder_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    monkeypatch.setattr("sys.platform", "linux")
    video = tmp_path / "a.mp4"
    video.touch()
    show_in_folder(video)
    show_in_folder(tmp_path)
    assert [Path(url.toLocalFile()) for url in opened] == [tmp_path, tmp_path]
