"""Whether a model can take the LoRAs of a job, and which of them change which transformer. Pure, torch-free."""

import math
from collections.abc import Sequence

from engine.errors import EngineError, ErrorCode
from engine.model_choice import LoraUse
from engine.weights.provenance import Expert


def check_uses(uses: Sequence[LoraUse], has_experts: bool) -> None:
    """See that a model with or without two transformers can take `uses`. Raises INVALID_SETTING."""
    for use in uses:
        if not math.isfinite(use.strength):
            raise _invalid("lora_strength", str(use.strength), "finite numbers")
        if use.expert is not None and not has_experts:
            raise _invalid("lora_expert", use.expert, "none, for this model has one transformer")


def uses_of(uses: Sequence[LoraUse], expert: Expert | None) -> list[LoraUse]:
    """Those of `uses` that change the transformer `expert`, in order; None is the only transformer of its model."""
    return [use for use in uses if use.expert in (None, expert)]


def _invalid(name: str, value: str, allowed: str) -> EngineError:
    return EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed=allowed)
