"""The ways in which a person names a file of latents, by a dialog or by dropping it; UI thread."""

from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QWidget

from desktop.settings import Settings
from desktop.state.latents_files import SUFFIXES, refusal_of


class LatentsOpener(QObject):
    """Says by signal which file is to be decoded, or why those that were dropped are not."""

    file_chosen = Signal(object)  # Path
    files_refused = Signal(object)  # LatentsRefusal

    def __init__(self, window: QWidget, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._window = window
        self._settings = settings

    @Slot()
    def ask(self) -> None:
        """Open the dialog at the folder of the last time."""
        dialog = QFileDialog(self._window, self.tr("Open latents"), self._settings.latents_folder)
        dialog.setObjectName("latentsDialog")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        patterns = " ".join(f"*{suffix}" for suffix in SUFFIXES)
        dialog.setNameFilters([self.tr("Latents ({patterns})").format(patterns=patterns), self.tr("All files (*)")])
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._take_path)
        dialog.open()

    @Slot(list)
    def take(self, files: list[Path]) -> None:
        """Take `files`, at least one, that were dropped on the window."""
        refusal = refusal_of(files)
        if refusal is None:
            self.file_chosen.emit(files[0])
        else:
            self.files_refused.emit(refusal)

    @Slot(str)
    def _take_path(self, path: str) -> None:
        self._settings.latents_folder = str(Path(path).parent)
        self.file_chosen.emit(Path(path))
