"""What is kept between two starts of the window (QSettings); lives on the UI thread."""

from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings, QStandardPaths

from desktop.state.model_use import ModelUse, use_from, use_text
from desktop.state.optimise import OptimiseValues, optimise_from, optimise_text
from desktop.theme import Appearance


@dataclass(slots=True)
class Settings:
    """Typed access to the stored values; a value of an unexpected kind reads as its default."""

    store: QSettings

    @property
    def geometry(self) -> QByteArray:
        """Size and place of the window, empty at the first start."""
        value = self.store.value("window/geometry")
        return value if isinstance(value, QByteArray) else QByteArray()

    @geometry.setter
    def geometry(self, value: QByteArray) -> None:
        self.store.setValue("window/geometry", value)

    @property
    def prompt(self) -> str:
        """The last prompt."""
        return self._text("prompt/text")

    @prompt.setter
    def prompt(self, value: str) -> None:
        self.store.setValue("prompt/text", value)

    @property
    def negative_prompt(self) -> str:
        """The last negative prompt."""
        return self._text("prompt/negative")

    @negative_prompt.setter
    def negative_prompt(self, value: str) -> None:
        self.store.setValue("prompt/negative", value)

    @property
    def appearance(self) -> Appearance:
        """Light, dark or as the system."""
        value = self._text("window/appearance")
        return Appearance(value) if value in list(Appearance) else Appearance.SYSTEM

    @appearance.setter
    def appearance(self, value: Appearance) -> None:
        self.store.setValue("window/appearance", value.value)

    @property
    def latents_folder(self) -> str:
        """Where latents were opened last; at first the person's own folder."""
        home = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.HomeLocation)
        return self._text("latents/folder") or home

    @latents_folder.setter
    def latents_folder(self, value: str) -> None:
        self.store.setValue("latents/folder", value)

    @property
    def models_folder(self) -> str:
        """Where models were looked for last; at first the person's own folder."""
        home = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.HomeLocation)
        return self._text("models/folder") or home

    @models_folder.setter
    def models_folder(self, value: str) -> None:
        self.store.setValue("models/folder", value)

    @property
    def model_places(self) -> list[Path]:
        """The folders and files in which models are looked for."""
        return [Path(line) for line in self._text("models/places").splitlines() if line]

    @model_places.setter
    def model_places(self, value: list[Path]) -> None:
        self.store.setValue("models/places", "\n".join(map(str, value)))

    @property
    def model_use(self) -> ModelUse:
        """The chosen model with its parts, at first the one that comes along."""
        return use_from(self._text("models/choice"))

    @model_use.setter
    def model_use(self, value: ModelUse) -> None:
        self.store.setValue("models/choice", use_text(value))

    @property
    def media_folder(self) -> str:
        """Where a picture or a clip was opened last; at first the person's pictures."""
        pictures = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.PicturesLocation)
        return self._text("media/folder") or pictures

    @media_folder.setter
    def media_folder(self, value: str) -> None:
        self.store.setValue("media/folder", value)

    @property
    def optimise(self) -> OptimiseValues:
        """How sampling was fitted into memory and made fast last, at first with nothing that costs quality."""
        return optimise_from(self._text("sampling/settings"))

    @optimise.setter
    def optimise(self, value: OptimiseValues) -> None:
        self.store.setValue("sampling/settings", optimise_text(value))

    @property
    def video_folder(self) -> Path:
        """Where new videos go."""
        movies = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.MoviesLocation)
        return Path(movies) / "Tessera"

    def _text(self, key: str) -> str:
        value = self.store.value(key, "")
        return value if isinstance(value, str) else ""
