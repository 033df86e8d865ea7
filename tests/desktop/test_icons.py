"""Icons that Qt copies must outlive the Python objects that drew them."""

import os
import subprocess
import sys
from pathlib import Path

from shiboken6 import isValid

from desktop import icons

ROOT = Path(__file__).resolve().parent.parent.parent

# Adding a picture to a copied icon makes Qt clone the engine; in a process of its own, for it may crash.
COPY = """
import gc
from PySide6.QtCore import QSize
from PySide6.QtGui import QIcon, QPixmap
from PySide6.QtWidgets import QApplication
from desktop.icons import icon

app = QApplication([])
picture = QPixmap(4, 4)
picture.fill("red")
for _ in range(100):
    first = icon("play", "#ffffff")
    copy = QIcon(first)
    copy.addPixmap(picture)
    del first
    gc.collect(0)
    assert not copy.pixmap(QSize(16, 16)).isNull()
"""


def test_a_copied_icon_does_not_crash() -> None:
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen"}
    ended = subprocess.run([sys.executable, "-c", COPY], cwd=ROOT, env=environment, capture_output=True, timeout=120)
    assert ended.returncode == 0, ended.stderr.decode()


def test_copies_that_qt_has_deleted_are_let_go() -> None:
    original = icons._SvgIconEngine("play", "#ffffff")
    before = len([each for each in icons._clones if isValid(each)])
    for _ in range(5):
        original.clone()
    assert len(icons._clones) <= before + 5
