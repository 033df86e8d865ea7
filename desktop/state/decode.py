"""How the person wants videos decoded; lives on the UI thread."""

from dataclasses import replace
from enum import Enum, auto

from PySide6.QtCore import QObject, Signal

from engine.commands import DecodeMode, DecodeSettings


class DecodeChoice(Enum):
    """The ways to decode that a person can tell apart; the two orders of strips are one."""

    AUTOMATIC = auto()
    WHOLE = auto()
    STRIPS = auto()
    REFERENCE = auto()


MODES = {
    DecodeChoice.AUTOMATIC: DecodeMode.AUTOMATIC,
    DecodeChoice.WHOLE: DecodeMode.WHOLE,
    DecodeChoice.STRIPS: DecodeMode.STRIP_MAJOR,
    DecodeChoice.REFERENCE: DecodeMode.REFERENCE,
}
CHOICES = {mode: choice for choice, mode in MODES.items()} | {DecodeMode.FRAME_MAJOR: DecodeChoice.STRIPS}


class DecodeState(QObject):
    """The settings of the decode panel.

    `values` keep what was set for a way that is not chosen now; `settings` leave it out.
    """

    settings_changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.values = DecodeSettings()

    @property
    def choice(self) -> DecodeChoice:
        """The chosen way."""
        return CHOICES[self.values.mode]

    def settings(self) -> DecodeSettings:
        """What goes into a command: of the values those that belong to the chosen way."""
        values, choice = self.values, self.choice
        if choice is not DecodeChoice.STRIPS:
            values = replace(values, strip_rows=None, chunk_latents=None)
        return values if choice is DecodeChoice.REFERENCE else replace(values, tiling=DecodeSettings().tiling)

    def change(self, values: DecodeSettings) -> None:
        """Take new values; silent when nothing differs, so that views may echo what they show."""
        if values != self.values:
            self.values = values
            self.settings_changed.emit()

    def choose(self, choice: DecodeChoice) -> None:
        """Another way to decode; strips are taken one by one at first, which needs the least memory."""
        if choice is not self.choice:
            self.change(replace(self.values, mode=MODES[choice]))
