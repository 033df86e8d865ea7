"""Which files fit a model as its parts, and which of them fit best; pure functions for the UI thread."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from desktop.state.found_models import FoundFile
from engine.model_choice import WeightForm
from engine.weights.complete import WITH_EXPERTS, latent_channels
from engine.weights.families import Role
from engine.weights.other_files import WIDTHS
from engine.weights.provenance import Expert

ANY_WIDTH = "wan_lora"  # the family of LoRA whose tensors do not tell what they were made for
SMALLER = 0.9  # a form that takes more than this of the stored bytes is no gain


class ModelPart(StrEnum):
    """What a model needs besides its transformer; the names are those of `ModelParts`."""

    LOW_NOISE = "low_noise"
    VAE = "vae"
    TEXT_ENCODER = "text_encoder"
    TOKENIZER = "tokenizer"
    IMAGE_ENCODER = "image_encoder"


ROLES = {
    ModelPart.VAE: Role.VAE,
    ModelPart.TEXT_ENCODER: Role.TEXT_ENCODER,
    ModelPart.IMAGE_ENCODER: Role.IMAGE_ENCODER,
}


def has_experts(model: FoundFile) -> bool:
    """Whether two transformers work one after the other."""
    return model.model.family.name in WITH_EXPERTS


def fits(part: ModelPart, model: FoundFile, file: FoundFile) -> bool:
    """Whether `file` can be this part of `model`."""
    if part is ModelPart.LOW_NOISE:
        is_other = file.path != model.path and file.model.family.expert is not Expert.HIGH_NOISE
        return is_other and has_experts(model) and file.model.family.name == model.model.family.name
    if file.role is not ROLES.get(part) or file.refusal is not None:
        return False
    of_model, of_file = model.model.family.expected, file.model.family.expected
    match part:
        case ModelPart.VAE:
            return latent_channels(file.model) == latent_channels(model.model)
        case ModelPart.TEXT_ENCODER:
            return of_file["token_embedding.weight"][1] == of_model["text_embedding.0.weight"][1]
        case ModelPart.IMAGE_ENCODER:
            width = of_model.get("img_emb.proj.0.bias")
            return width is not None and of_file["visual.patch_embedding.weight"][0] == width[0]
        case ModelPart.TOKENIZER:
            return False  # is no checkpoint


def candidates(part: ModelPart, model: FoundFile, files: Iterable[FoundFile]) -> list[FoundFile]:
    """The `files` that fit, best first: what lies near, is not cut down, and holds the most bits."""

    def rank(file: FoundFile) -> tuple[int, bool, bool, int, Path]:
        untold = part is ModelPart.LOW_NOISE and file.model.family.expert is None
        is_pruned = file.model.family.name.endswith("_pruned")
        return -_nearness(model.path, file.path), untold, is_pruned, -file.model.bytes_on_disk, file.path

    return sorted((file for file in files if fits(part, model, file)), key=rank)


def nearest(to: Path, files: Iterable[Path]) -> list[Path]:
    """`files` in the order of how many folders they share with `to`; sentencepiece's own kind before others."""
    return sorted(files, key=lambda file: (-_nearness(to, file), file.suffix != ".model", file))


def _nearness(first: Path, second: Path) -> int:
    """How many folders, from the root, two files have in common."""
    pairs = zip(first.parts[:-1], second.parts[:-1], strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first.parts), len(second.parts)) - 1)


def second_experts(files: Iterable[FoundFile]) -> set[Path]:
    """Transformers that are told to be the second of two of which the first is there as well."""
    pairs = [file for file in files if has_experts(file)]
    firsts = {file.model.family.name for file in pairs if file.model.family.expert is Expert.HIGH_NOISE}
    seconds = [file for file in pairs if file.model.family.expert is Expert.LOW_NOISE]
    return {file.path for file in seconds if file.model.family.name in firsts}


def lora_fits(model: FoundFile, lora: FoundFile) -> bool:
    """Whether the LoRA was made for a model as wide as this one, as far as it tells."""
    width = WIDTHS.get(model.model.family.expected["patch_embedding.bias"][0])
    return lora.model.family.name in (ANY_WIDTH, f"wan_{width}_lora")


def forms_of(model: FoundFile) -> dict[WeightForm, int]:
    """Bytes on the card in every form that is worth choosing: as stored, and those that are clearly smaller."""
    card = model.report.card
    stored = card["as_stored"]
    smaller = {form: card[form] for form in (WeightForm.FP8_SCALED, WeightForm.FP4_SCALED) if form in card}
    return {WeightForm.STORED: stored} | {form: size for form, size in smaller.items() if size < SMALLER * stored}
