"""Opens the system's file browser at a file; UI thread."""

import sys
from pathlib import Path

from PySide6.QtCore import QDir, QProcess, QUrl
from PySide6.QtGui import QDesktopServices


def show_in_folder(path: Path) -> None:
    """Show `path` selected where the system can do that, else open the folder that holds it."""
    if sys.platform == "win32" and path.is_file():
        # Explorer wants the switch and the path as one word and its own slashes.
        QProcess.startDetached("explorer.exe", [f"/select,{QDir.toNativeSeparators(str(path))}"])
    elif sys.platform == "darwin" and path.exists():
        QProcess.startDetached("open", ["-R", str(path)])
    else:
        folder = path if path.is_dir() else path.parent
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
