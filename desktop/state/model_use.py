"""What of a command names the model, and the same as text for the settings; pure, for the UI thread."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from engine.commands import EMBEDDED_MODEL
from engine.model_choice import LoraUse, ModelParts, WeightForm, lora_from, parts_from


@dataclass(frozen=True, slots=True)
class ModelUse:
    """A model with its parts. As the person's choice, `parts` are only those that were chosen by hand."""

    model: Path = EMBEDDED_MODEL
    parts: ModelParts = field(default_factory=ModelParts)
    weights: WeightForm = WeightForm.STORED
    loras: tuple[LoraUse, ...] = ()


def use_text(use: ModelUse) -> str:
    """`use` as one line of JSON; the embedded model, which may lie elsewhere at the next start, goes without a path."""
    stated = asdict(use) | ({"model": ""} if use.model == EMBEDDED_MODEL else {})
    return json.dumps(stated, default=str, ensure_ascii=False)


def use_from(text: str) -> ModelUse:
    """What `use_text` wrote; the embedded model for anything else."""
    try:
        stated = json.loads(text)
        return ModelUse(
            model=Path(stated["model"]) if stated["model"] else EMBEDDED_MODEL,
            parts=parts_from(stated["parts"]),
            weights=WeightForm(stated["weights"]),
            loras=tuple(map(lora_from, stated["loras"])),
        )
    except (ValueError, TypeError, LookupError, AttributeError):
        return ModelUse()
