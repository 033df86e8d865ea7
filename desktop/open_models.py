"""The ways in which a person names places of models, by dialogs or by dropping them; UI thread."""

from pathlib import Path

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QWidget

from desktop.settings import Settings
from desktop.state.found_models import FoundFile
from desktop.state.latents_files import is_model_place, may_be_model
from engine.weights.families import Role
from engine.weights.model_files import MODEL_ENDINGS


class ModelsOpener(QObject):
    """Says by signal which place is to be searched. What is dropped may be latents as well: only a look tells."""

    place_chosen = Signal(object)  # Path
    latents_dropped = Signal(list)  # of Path
    judgement_requested = Signal(object)  # Path

    def __init__(self, window: QWidget, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._window = window
        self._settings = settings

    @Slot()
    def ask_folder(self) -> None:
        """Open a dialog for a folder."""
        dialog = self._dialog(self.tr("Folder of models"))
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.open()

    @Slot()
    def ask_file(self) -> None:
        """Open a dialog for a single file."""
        dialog = self._dialog(self.tr("Model file"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        patterns = " ".join(f"*{ending}" for ending in MODEL_ENDINGS)
        dialog.setNameFilters([self.tr("Models ({patterns})").format(patterns=patterns), self.tr("All files (*)")])
        dialog.open()

    @Slot(list)
    def take(self, files: list[Path]) -> None:
        """Take `files`, at least one, that were dropped on the window."""
        if all(map(is_model_place, files)):
            for place in files:
                self.place_chosen.emit(place)
        elif len(files) == 1 and may_be_model(files[0]):
            self.judgement_requested.emit(files[0])
        else:
            self.latents_dropped.emit(files)

    @Slot(object, object)
    def take_judgement(self, path: Path, found: FoundFile | None) -> None:
        """A dropped file was looked at: what is no model goes to the reader of latents, which says what is wrong."""
        if found is None or found.role is Role.LATENTS:
            self.latents_dropped.emit([path])
        else:
            self.place_chosen.emit(path)

    def _dialog(self, title: str) -> QFileDialog:
        dialog = QFileDialog(self._window, title, self._settings.models_folder)
        dialog.setObjectName("modelsDialog")
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._take_path)
        return dialog

    @Slot(str)
    def _take_path(self, path: str) -> None:
        self._settings.models_folder = str(Path(path).parent)
        self.place_chosen.emit(Path(path))
