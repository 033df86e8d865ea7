"""What the window says about the choice of a model: its parts, what is missing, and how a search goes; UI thread."""

from pathlib import Path
from typing import assert_never

from PySide6.QtCore import QCoreApplication

from desktop.model_words import display_name, family_text, refusal_text, stored_text
from desktop.state.found_models import FoundFile, Place
from desktop.state.library import Library, Standing
from desktop.state.matching import ModelPart
from desktop.words import byte_text
from engine.commands import EMBEDDED_MODEL
from engine.model_choice import WeightForm
from engine.weights.complete import CONFIG, EXPERTS, IMAGE_ENCODER, TEXT_ENCODER, TOKENIZER, VAE_21, VAE_22
from engine.weights.provenance import Expert

translate = QCoreApplication.translate  # under this name lupdate finds the strings

PARTS_OF_NAMES = {
    EXPERTS[Expert.LOW_NOISE]: ModelPart.LOW_NOISE,
    VAE_21: ModelPart.VAE,
    VAE_22: ModelPart.VAE,
    TEXT_ENCODER: ModelPart.TEXT_ENCODER,
    TOKENIZER: ModelPart.TOKENIZER,
    IMAGE_ENCODER: ModelPart.IMAGE_ENCODER,
}


def whole_text(folder: Path) -> str:
    """A model folder that comes whole."""
    if folder == EMBEDDED_MODEL:
        return translate("models", "Tessera mini, comes along")
    return folder.name or str(folder)


def model_text(file: FoundFile) -> str:
    """A model as an entry of the list."""
    return f"{family_text(file.model.family.name)} · {stored_text(file)} · {display_name(file.path)}"


def form_text(form: WeightForm, size: int) -> str:
    """A form of the weights as an entry of the list, with what the model then takes."""
    match form:
        case WeightForm.STORED:
            name = translate("models", "As stored")
        case WeightForm.FP8_SCALED:
            name = translate("models", "8-bit floats")
        case WeightForm.FP4_SCALED:
            name = translate("models", "4-bit floats")
        case _:
            assert_never(form)
    return translate("models", "{name} · {size} on the card").format(name=name, size=byte_text(size))


def part_text(part: ModelPart) -> str:
    """A part of a model as a label."""
    match part:
        case ModelPart.LOW_NOISE:
            return translate("models", "Second expert")
        case ModelPart.VAE:
            return translate("models", "VAE")
        case ModelPart.TEXT_ENCODER:
            return translate("models", "Text encoder")
        case ModelPart.TOKENIZER:
            return translate("models", "Tokenizer")
        case ModelPart.IMAGE_ENCODER:
            return translate("models", "Image encoder")
        case _:
            assert_never(part)


def missing_text(name: str) -> str:
    """What a missing file is for, and what it is officially called."""
    if name == CONFIG:
        return translate("models", "A model of this size needs its config.json beside it, which tells its heads.")
    purposes = {
        EXPERTS[Expert.HIGH_NOISE]: translate(
            "models", "The first of two experts, which begins the video, is missing."
        ),
        EXPERTS[Expert.LOW_NOISE]: translate("models", "The second of two experts, which ends the video, is missing."),
        VAE_21: translate("models", "The VAE, which makes the pictures, is missing."),
        VAE_22: translate("models", "The VAE of Wan 2.2, which makes the pictures, is missing."),
        TEXT_ENCODER: translate("models", "The text encoder, which reads the prompt, is missing."),
        TOKENIZER: translate("models", "The tokenizer, which cuts the prompt into words, is missing."),
        IMAGE_ENCODER: translate("models", "The image encoder is missing."),
    }
    look_for = translate("models", "Official file: {name}").format(name=name)
    return " ".join(filter(None, (purposes.get(name, ""), look_for)))


def place_text(place: Place) -> str:
    """What a search has come to."""
    if place.problem:
        return translate("models", "Cannot be read: {reason}").format(reason=place.problem)
    count = len(place.files)
    files = translate("models", "1 model file") if count == 1 else translate("models", "{count} model files")
    found = files.format(count=count) if count else translate("models", "no model files")
    if place.is_searching:
        return translate("models", "Searching… {found} so far").format(found=found)
    refused = translate("models", ", {count} refused").format(count=len(place.refused)) if place.refused else ""
    return found[:1].upper() + found[1:] + refused


def lora_problem_text(library: Library, path: Path) -> str:
    """Why a LoRA in use takes no part; empty for one that does."""
    if path in library.fitting_loras():
        return ""
    if library.file(path) is not None:
        return translate("models", "left out: for another model")
    return "" if library.found.is_searching else translate("models", "left out: not found")


def chosen_text(library: Library) -> str:
    """The chosen model, as the prompt panel names it."""
    if library.is_whole:
        return whole_text(library.choice.model)
    model = library.chosen
    return display_name(library.choice.model) if model is None else family_text(model.model.family.name)


def standing_text(library: Library) -> str:
    """What stands between the chosen model and a video; empty when nothing does."""
    standing = library.standing
    match standing:
        case Standing.READY:
            return ""
        case Standing.SEARCHING:
            return translate("models", "Looking for its files…")
        case Standing.GONE:
            return translate("models", "Its file is not in the chosen folders any more.")
        case Standing.REFUSED:
            model = library.chosen
            return "" if model is None or model.refusal is None else refusal_text(model.refusal)
        case Standing.INCOMPLETE:
            count = len(library.missing())
            if count == 1:
                return translate("models", "1 part is missing.")
            return translate("models", "{count} parts are missing.").format(count=count)
        case _:
            assert_never(standing)
