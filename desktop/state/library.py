"""The model that the person chose among those that were found, and its parts; lives on the UI thread."""

from dataclasses import replace
from enum import Enum, auto
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from desktop.state.found_models import FoundFile, FoundModels
from desktop.state.matching import (
    ModelPart,
    candidates,
    forms_of,
    has_experts,
    lora_fits,
    nearest,
    second_experts,
)
from desktop.state.model_use import ModelUse
from engine.commands import EMBEDDED_MODEL
from engine.model_choice import LoraUse, ModelParts, WeightForm
from engine.presets import ModelDefaults, defaults_of, defaults_of_network
from engine.weights.complete import CONFIG, missing_files
from engine.weights.families import Role
from engine.weights.provenance import expert_in


class Standing(Enum):
    """Whether videos can be made with the chosen model."""

    READY = auto()
    SEARCHING = auto()  # its place has not been seen whole
    GONE = auto()  # its file is not there any more
    REFUSED = auto()  # this version cannot run it
    INCOMPLETE = auto()  # parts are missing


class Library(QObject):
    """The choice, and what it amounts to. `given` is the model folder that the program was started with.

    A folder that comes whole, as the embedded model does, needs no parts and takes none.
    """

    changed = Signal()  # the choice, or what there is to choose from
    choice_changed = Signal()

    def __init__(self, found: FoundModels, given: Path, defaults: ModelDefaults, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.found = found
        self.given = given
        self.choice = ModelUse(given)
        self._given_defaults = defaults
        self._fresh: set[Path] = set()  # places that the person chose just now, from which a model may be chosen
        found.changed.connect(self.changed)
        found.search_ended.connect(self._choose_from)

    @property
    def wholes(self) -> tuple[Path, ...]:
        """The folders that come whole."""
        return tuple(dict.fromkeys((self.given, EMBEDDED_MODEL)))

    @property
    def is_whole(self) -> bool:
        """Whether one of them is chosen."""
        return self.choice.model in self.wholes

    @property
    def chosen(self) -> FoundFile | None:
        """The chosen file, once it was found; None as well for a folder that comes whole."""
        return self.file(self.choice.model)

    @property
    def standing(self) -> Standing:
        """What stands between the chosen model and a video, if anything."""
        if self.is_whole:
            return Standing.READY
        if self.chosen is None:
            return Standing.SEARCHING if self.found.is_searching else Standing.GONE
        if self.chosen.refusal is not None:
            return Standing.REFUSED
        if self.missing():
            return Standing.SEARCHING if self.found.is_searching else Standing.INCOMPLETE
        return Standing.READY

    def file(self, path: Path | None) -> FoundFile | None:
        """What was found at `path`."""
        return None if path is None else self.found.file(path)

    def models(self) -> list[FoundFile]:
        """What can be chosen first: transformers, of two experts the first."""
        files = [file for file in self.found.files() if file.is_model]
        hidden = second_experts(files) - {self.choice.model}
        return sorted((file for file in files if file.path not in hidden), key=lambda file: file.path.name.lower())

    def loras(self) -> list[FoundFile]:
        """The LoRAs that fit the chosen model and are not in use yet."""
        used = {use.path for use in self.choice.loras}
        fitting = (file for path, file in self.fitting_loras().items() if path not in used)
        return sorted(fitting, key=lambda file: file.path.name.lower())

    def fitting_loras(self) -> dict[Path, FoundFile]:
        """All LoRAs that fit the chosen model, by their paths."""
        model = self.chosen
        found = (file for file in self.found.files() if file.role is Role.LORA)
        return {file.path: file for file in found if model is not None and lora_fits(model, file)}

    def needs(self) -> tuple[ModelPart, ...]:
        """The parts that the chosen model is made up of."""
        model = self.chosen
        if model is None:
            return ()
        encoder = self.file(self.part(ModelPart.TEXT_ENCODER))
        needed = {
            ModelPart.LOW_NOISE: has_experts(model),
            ModelPart.TOKENIZER: encoder is None or not encoder.report.has_tokenizer,
            ModelPart.IMAGE_ENCODER: "img_emb.proj.0.bias" in model.model.family.expected,
        }
        return tuple(part for part in ModelPart if needed.get(part, True))

    def options(self, part: ModelPart) -> list[Path]:
        """The files that can be this part, best first."""
        model = self.chosen
        if model is None:
            return []
        if part is ModelPart.TOKENIZER:
            return nearest(self.part(ModelPart.TEXT_ENCODER) or model.path, self.found.tokenizers())
        return [file.path for file in candidates(part, model, self.found.files())]

    def part(self, part: ModelPart) -> Path | None:
        """The file that is this part: the one chosen by hand while it is there, else the best."""
        options = self.options(part)
        by_hand = self.by_hand(part)
        return by_hand if by_hand in options else next(iter(options), None)

    def by_hand(self, part: ModelPart) -> Path | None:
        """The file that the person chose; None leaves it to the program."""
        chosen: Path | None = getattr(self.choice.parts, part)
        return chosen

    def missing(self) -> tuple[str, ...]:
        """Official names of the files that the chosen model lacks."""
        model = self.chosen
        if model is None or model.role is not Role.TRANSFORMER:
            return ()
        parts = {part: self.file(self.part(part)) for part in self.needs()}
        encoder = parts[ModelPart.TEXT_ENCODER]
        has_tokenizer = self.part(ModelPart.TOKENIZER) is not None or (
            encoder is not None and encoder.report.has_tokenizer
        )
        models = [model.model, *(file.model for file in parts.values() if file is not None)]
        return missing_files(models, has_tokenizer=has_tokenizer, has_config=lambda _: model.has_config)

    def forms(self) -> dict[WeightForm, int]:
        """Bytes that the chosen model takes on the card, by the forms that it can be given."""
        return {} if self.chosen is None else forms_of(self.chosen)

    def use(self) -> ModelUse:
        """The choice for commands: with every part named, and without LoRAs that are gone or do not fit."""
        if self.chosen is None:
            return ModelUse(self.choice.model)
        parts = ModelParts(**{part.value: self.part(part) for part in self.needs()})
        weights = self.choice.weights if self.choice.weights in self.forms() else WeightForm.STORED
        fitting = self.fitting_loras()
        loras = tuple(use for use in self.choice.loras if use.path in fitting)
        return ModelUse(self.choice.model, parts, weights, loras)

    def defaults(self) -> ModelDefaults | None:
        """The settings to begin with; None while the chosen model is not known."""
        if self.choice.model == self.given:
            return self._given_defaults
        if self.is_whole:
            return defaults_of(self.choice.model)
        model = self.chosen
        if model is None:
            return None
        return defaults_of_network(model.model, model.path.with_name(CONFIG) if model.has_config else None)

    def change(self, choice: ModelUse) -> None:
        """Take another choice; silent when nothing differs."""
        if choice != self.choice:
            self.choice = choice
            self.choice_changed.emit()
            self.changed.emit()

    def choose_model(self, path: Path) -> None:
        """Another model, whose parts are found anew; LoRAs that fit it stay."""
        if path == self.choice.model:
            return
        model = self.file(path)
        loras = [(use, self.file(use.path)) for use in self.choice.loras] if model is not None else []
        kept = tuple(use for use, file in loras if file is None or (model is not None and lora_fits(model, file)))
        self.change(ModelUse(path, weights=self.choice.weights, loras=kept))

    def choose_part(self, part: ModelPart, path: Path | None) -> None:
        """This file as a part; None leaves it to the program."""
        self.change(replace(self.choice, parts=replace(self.choice.parts, **{part.value: path})))

    def choose_weights(self, form: WeightForm) -> None:
        """How the weights are held on the card."""
        self.change(replace(self.choice, weights=form))

    def add_lora(self, path: Path) -> None:
        """One more LoRA, with the expert that its name tells."""
        model = self.chosen
        if model is None or any(use.path == path for use in self.choice.loras):
            return
        use = LoraUse(path, expert=expert_in(path) if has_experts(model) else None)
        self.change(replace(self.choice, loras=(*self.choice.loras, use)))

    def change_lora(self, use: LoraUse) -> None:
        """Another strength or expert of a LoRA in use."""
        loras = tuple(use if each.path == use.path else each for each in self.choice.loras)
        self.change(replace(self.choice, loras=loras))

    def remove_lora(self, path: Path) -> None:
        """One LoRA less."""
        self.change(replace(self.choice, loras=tuple(use for use in self.choice.loras if use.path != path)))

    def add_place(self, path: Path) -> None:
        """Look for models in a place that the person named just now."""
        self._fresh.add(path)
        self.found.add_place(path)

    @Slot(object)
    def _choose_from(self, place: Path) -> None:
        """What came with a new place is chosen: a single file by all means, one of a folder for want of another."""
        if place not in self._fresh:
            return
        self._fresh.discard(place)
        file = self.file(place)
        if file is None:
            self._choose_first(place)
        elif file.is_model:
            self.choose_model(place)
        elif file.role is Role.LORA:
            self.add_lora(place)

    def _choose_first(self, folder: Path) -> None:
        runnable = (file for file in self.models() if file.refusal is None and folder in file.path.parents)
        first = next(runnable, None)
        if self.is_whole and first is not None:
            self.choose_model(first.path)
