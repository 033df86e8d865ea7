"""Opens the system's file browser at a file; UI thread."""

import subprocess
import sys
from pathlib import Path, PurePath

from PySide6.QtCore import QProcess, QUrl
from PySide6.QtGui import QDesktopServices


def show_in_folder(path: Path) -> None:
    """Show `path` selected where the system can do that, else open the folder that holds it."""
    if sys.platform == "win32" and path.is_file():
        subprocess.Popen(explorer_command(path))
    elif sys.platform == "darwin" and path.exists():
        QProcess.startDetached("open", ["-R", str(path)])
    else:
        folder = path if path.is_dir() else path.parent
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


def explorer_command(path: PurePath) -> str:
    """Explorer reads its own command line: the switch must stand outside of the quotes, which no list can say."""
    return f'explorer.exe /select,"{path}"'
