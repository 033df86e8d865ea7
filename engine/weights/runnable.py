"""Which of the models that can be inspected this version cannot run, and why. Pure and torch-free."""

from enum import StrEnum, auto

from engine.weights.families import Role
from engine.weights.identify import Description


class RunRefusal(StrEnum):
    """What a model needs that this version does not give it."""

    NEEDS_SOUND = auto()
    LACKS_PARAMETERS = auto()  # the file is not whole


def why_not_runnable(model: Description) -> RunRefusal | None:
    """Why no video can be made with the network `model`; None for one that runs.

    Files that are no network, LoRA and latents, have nothing that speaks against them here.
    """
    if model.missing:
        return RunRefusal.LACKS_PARAMETERS
    return RunRefusal.NEEDS_SOUND if model.role is Role.AUDIO else None
