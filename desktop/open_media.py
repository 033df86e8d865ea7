"""The ways in which a person names pictures and clips to begin from, by a dialog or by dropping them; UI thread."""

from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QWidget

from desktop.settings import Settings
from desktop.start_words import slot_name
from desktop.state.media_files import CLIPS, PICTURES, is_media
from desktop.state.start import FIRST, LAST, StartState


class MediaOpener(QObject):
    """Writes what was chosen into the state of how videos begin."""

    files_left = Signal(list)  # of Path
    file_refused = Signal(object)  # Path of what the model has no use for

    def __init__(self, window: QWidget, settings: Settings, start: StartState, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._window, self._settings, self._start = window, settings, start
        self._slot = FIRST

    @Slot(str)
    def ask(self, slot: str) -> None:
        """Open a dialog for the file of a slot, at the folder of the last time."""
        self._slot = slot
        dialog = QFileDialog(self._window, slot_name(slot), self._settings.media_folder)
        dialog.setObjectName("mediaDialog")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        is_picture = slot in (FIRST, LAST)
        patterns = " ".join(f"*{ending}" for ending in (PICTURES if is_picture else CLIPS))
        named = self.tr("Pictures ({patterns})") if is_picture else self.tr("Clips ({patterns})")
        dialog.setNameFilters([named.format(patterns=patterns), self.tr("All files (*)")])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._take_path)
        dialog.open()

    @Slot(list)
    def take(self, files: list[Path]) -> None:
        """Take `files`, at least one, that were dropped on the window; what is no media is left to others."""
        if not is_media(files):
            self.files_left.emit(files)
        elif self._start.place_for(files[0]) is None:
            self.file_refused.emit(files[0])
        else:
            self._start.take_file(files[0])

    @Slot(str)
    def _take_path(self, path: str) -> None:
        self._settings.media_folder = str(Path(path).parent)
        self._start.set_file(self._slot, Path(path))
