"""Which of the models that can be inspected this version cannot run, and why. Pure and torch-free."""

from enum import StrEnum, auto

from engine.weights.complete import WITH_EXPERTS, latent_channels
from engine.weights.families import Role
from engine.weights.identify import Description


class RunRefusal(StrEnum):
    """What a model needs that this version does not give it."""

    NEEDS_PICTURE = auto()  # that the video begins with
    NEEDS_TWO_PICTURES = auto()  # that the video begins and ends with
    NEEDS_TWO_EXPERTS = auto()  # one after the other, of which a file is one
    NEEDS_SOUND = auto()
    LACKS_PARAMETERS = auto()  # the file is not whole


def why_not_runnable(model: Description) -> RunRefusal | None:
    """Why no video can be made with the network `model`; None for one that runs, as text-to-video models of any size.

    Files that are no network, LoRA and latents, have nothing that speaks against them here.
    """
    if model.missing:
        return RunRefusal.LACKS_PARAMETERS
    if model.role is Role.AUDIO:
        return RunRefusal.NEEDS_SOUND
    if model.role is not Role.TRANSFORMER:
        return None
    if "img_emb.emb_pos" in model.family.expected:
        return RunRefusal.NEEDS_TWO_PICTURES
    if _takes_more_than_noise(model):
        return RunRefusal.NEEDS_PICTURE
    return RunRefusal.NEEDS_TWO_EXPERTS if model.family.name in WITH_EXPERTS else None


def _takes_more_than_noise(model: Description) -> bool:
    """Whether the input has channels beside those of the latents: a mask, and the latents of a picture."""
    return model.family.expected["patch_embedding.weight"][1] > latent_channels(model)
