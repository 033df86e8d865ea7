"""From a place that the person names to the model of the next command: what connects the steps; UI thread."""

from pathlib import Path

from PySide6.QtCore import QObject, Slot

from desktop.model_inspector import ModelInspector
from desktop.open_latents import LatentsOpener
from desktop.open_media import MediaOpener
from desktop.open_models import ModelsOpener
from desktop.settings import Settings
from desktop.state.found_models import FoundModels
from desktop.state.library import Library, Standing
from desktop.state.prompt import PromptState
from desktop.views.main_window import MainWindow
from engine.commands import EMBEDDED_MODEL


class ModelChooser(QObject):
    """Owns what was found and what was chosen, and keeps the prompt's model and the settings in step with it."""

    def __init__(self, prompt: PromptState, settings: Settings, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._prompt, self._settings = prompt, settings
        self.found = FoundModels(self)
        self.library = Library(self.found, prompt.model, prompt.defaults, self)
        self._window: MainWindow | None = None
        self._has_choice = False  # of last time, which a demo leaves alone
        self.library.changed.connect(self._take_model)

    def connect_window(self, window: MainWindow, media: MediaOpener, latents: LatentsOpener) -> ModelsOpener:
        """Take places from dialogs, and from drops that are no media, and hand dropped latents to `latents`."""
        self._window = window
        opener = ModelsOpener(window, self._settings, self)
        window.files_dropped.connect(media.take)
        media.files_left.connect(opener.take)
        opener.latents_dropped.connect(latents.take)
        opener.place_chosen.connect(self.add_place)
        window.models.folder_requested.connect(opener.ask_folder)
        window.models.file_requested.connect(opener.ask_file)
        return opener

    def connect_inspector(self, inspector: ModelInspector, opener: ModelsOpener) -> None:
        """Have places searched on the inspector's thread; every slot is a QObject's, so that results are queued."""
        found = self.found
        found.search_requested.connect(inspector.search)
        inspector.file_found.connect(found.add_file)
        inspector.tokenizer_found.connect(found.add_tokenizer)
        inspector.file_refused.connect(found.add_refused)
        inspector.search_ended.connect(found.end_search)
        opener.judgement_requested.connect(inspector.judge)
        inspector.file_judged.connect(opener.take_judgement)

    def restore(self, *, with_choice: bool) -> None:
        """Search the places of last time, and choose what was chosen then unless another model was given.

        How sampling was fitted into memory comes back with the model that it was set for.
        """
        for place in self._settings.model_places:
            self.found.add_place(place)
        if with_choice and self.library.given == EMBEDDED_MODEL:
            self.library.change(self._settings.model_use)
        self._has_choice = with_choice
        if self._is_chosen:
            self._prompt.restore_optimise(self._settings.optimise)
        self.found.places_changed.connect(self._keep_places)
        self.library.choice_changed.connect(self._keep_choice)

    @property
    def _is_chosen(self) -> bool:
        """Whether the model in use is the one that the settings name, and not one for this time only."""
        return self._has_choice and self._prompt.model == self._settings.model_use.model

    @Slot()
    def keep_optimise(self) -> None:
        """Store how sampling is fitted into memory, for the next start with the chosen model."""
        if self._is_chosen:
            self._settings.optimise = self._prompt.optimise.values

    @Slot(object)
    def add_place(self, place: Path) -> None:
        """Look for models in a place that the person named, and show what is found."""
        if self._window is not None:
            self._window.open_models()
        self.library.add_place(place)

    @Slot()
    def _take_model(self) -> None:
        is_ready = self.library.standing is Standing.READY
        self._prompt.take_model(self.library.use(), self.library.defaults(), is_ready=is_ready)

    @Slot()
    def _keep_places(self) -> None:
        self._settings.model_places = [place.path for place in self.found.places]

    @Slot()
    def _keep_choice(self) -> None:
        choice = self.library.choice
        if choice.model == EMBEDDED_MODEL or choice.model != self.library.given:  # which is for this time only
            self._settings.model_use = choice
