"""The Qt binding itself on this Python: a release whose calls eat references of None takes the process down."""

import sys

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QApplication


class Sender(QObject):
    fired = Signal()


def test_calls_do_not_eat_references(qapp: QApplication) -> None:
    """PySide6 6.12.0 on Python 3.11 lost one reference of None or True per call and aborted within seconds."""
    timer, sender = QTimer(), Sender()
    before = [sys.getrefcount(value) for value in (None, True)]
    for _ in range(500):
        timer.stop()
        sender.fired.emit()
    after = [sys.getrefcount(value) for value in (None, True)]
    assert all(late > early - 100 for early, late in zip(before, after, strict=True))
