"""What is told while files are dragged above the window, wherever the picture or a page stands; UI thread."""

from collections.abc import Iterable
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QDropEvent
from PySide6.QtWidgets import QWidget

from desktop.failure_words import drop_hint_text
from desktop.start_words import drop_text, refused_drop_text
from desktop.state.latents_files import is_model_place, refusal_of
from desktop.state.media_files import is_media
from desktop.state.start import StartState
from desktop.theme import Colours
from desktop.views.drop_hint import DropHint


class DropHints:
    """One hint over each of `places`, of which never more than one is to be seen."""

    def __init__(self, places: Iterable[QWidget], start: StartState, colours: Colours) -> None:
        self._start = start
        self.hints = [DropHint(place, colours) for place in places]

    def show_for(self, files: list[Path]) -> None:
        """Say what dropping `files`, at least one, would do."""
        text, is_welcome = self._say(files)
        for hint in self.hints:
            hint.show_hint(text, is_welcome=is_welcome)

    def hide(self) -> None:
        """Nothing is dragged any more."""
        for hint in self.hints:
            hint.hide()

    def paint_in(self, colours: Colours) -> None:
        """Take the theme's colours."""
        for hint in self.hints:
            hint.paint_in(colours)

    def _say(self, files: list[Path]) -> tuple[str, bool]:
        """The words, and whether the drop would do what the person wants."""
        if is_media(files):
            place = self._start.place_for(files[0])
            return (
                (refused_drop_text(self._start), False) if place is None else (drop_text(place[1], files[0].name), True)
            )
        refusal = None if all(map(is_model_place, files)) else refusal_of(files)
        return drop_hint_text(files[0], refusal), refusal is None


def accept_copy(event: QDropEvent) -> None:
    """A drop that counts as a move would let some file browsers remove the file."""
    event.setDropAction(Qt.DropAction.CopyAction)
    event.accept()
