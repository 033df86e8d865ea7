"""Which files make the model of a job, and in which form its weights go to the card: frozen, picklable, torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from engine.weights.provenance import Expert


class WeightForm(StrEnum):
    """How the transformer's large weights are held on the card. STORED: as they are in their file."""

    STORED = "stored"
    FP8_SCALED = "fp8_scaled"
    FP4_SCALED = "fp4_scaled"


@dataclass(frozen=True, slots=True)
class ModelParts:
    """Files that take the place of what the model's own folder has, or lacks; None leaves it to the folder.

    low_noise: the second of two transformers, that ends the work.
    """

    low_noise: Path | None = None
    vae: Path | None = None
    text_encoder: Path | None = None
    tokenizer: Path | None = None
    image_encoder: Path | None = None


@dataclass(frozen=True, slots=True)
class LoraUse:
    """The LoRA in `path` with a factor, negative for the opposite; `expert` None is for every transformer."""

    path: Path
    strength: float = 1.0
    expert: Expert | None = None


def parts_from(stated: Mapping[str, Any]) -> ModelParts:
    """The parts of a stored command. Raises TypeError for a part that is not known."""
    return ModelParts(**{name: None if file is None else Path(file) for name, file in stated.items()})


def lora_from(stated: Mapping[str, Any]) -> LoraUse:
    """A LoRA of a stored command. Raises KeyError, TypeError and ValueError for what is none."""
    expert = stated.get("expert")
    return LoraUse(Path(stated["path"]), float(stated["strength"]), None if expert is None else Expert(expert))
