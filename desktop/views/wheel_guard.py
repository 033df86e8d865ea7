"""Keeps the wheel from changing settings while the person scrolls past them; UI thread."""

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QWidget


class WheelGuard(QObject):
    """Lets the wheel turn a value only while its widget has the focus; else the panel around it scrolls."""

    def watch(self, widget: QWidget) -> None:
        """Guard `widget`, which must not take the focus by the wheel itself."""
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() is not QEvent.Type.Wheel or not isinstance(watched, QWidget) or watched.hasFocus():
            return False
        event.ignore()  # so that Qt offers it to the parent
        return True
