"""Plans of jobs that nobody runs yet, on a card without limits but those asked for; for `python -m engine plan`.

Engine thread. Of a model only headers are read, and of a published one that is named not even those.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from engine.clip import Clip, multiple_of, open_model
from engine.commands import DecodeSettings
from engine.decode.figures import describe
from engine.decode.plan import plan as plan_decode
from engine.events import DecodePlanned, JobPlanned
from engine.generation import Given, SamplingSettings
from engine.job_plan import Limits, Wish, plan_job
from engine.model_choice import WeightForm
from engine.models.transformer import TransformerConfig
from engine.models.video_vae import VideoVaeConfig
from engine.networks import Networks, known_networks, networks_of
from engine.pictures.fit import Target
from engine.pictures.road import PictureRoad, check_given

SOME_PICTURE = Path("picture")  # only whether there is one matters to a plan
NAME_FROM_FORM = ":"


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned. model: a folder, a file, or the name and form of a published model, NAME:FORM."""

    model: str
    size: tuple[int, int]
    frames: int
    weights: WeightForm
    sampling: SamplingSettings
    decode: DecodeSettings
    budget_bytes: int | None
    is_guided: bool
    has_picture: bool


def plan_ahead(question: Question, dtype: torch.dtype) -> tuple[JobPlanned, DecodePlanned]:
    """The plan of the whole job, and that of its decode beside other ways.

    Raises what opening the model raises, INVALID_SETTING for a name that is not known and a picture that the model does
    not take, INVALID_SIZE, INVALID_FRAMES.
    """
    networks = networks_named(question, dtype)
    use, multiple = networks.pictures, multiple_of(networks.vae, networks.transformer)
    target = Target(question.size, multiple, use.road)
    clip = Clip.of_pixels(networks.vae, multiple, target.sampled, question.frames)
    begins_with_picture = question.has_picture or use.road is PictureRoad.CHANNELS
    given = Given(first=SOME_PICTURE if begins_with_picture else None, last=SOME_PICTURE if use.needs_last else None)
    check_given(given, use)
    wish = Wish(target, given, guided=question.is_guided, sampling=question.sampling, decode=question.decode)
    limits = Limits(question.budget_bytes, is_reserved=question.budget_bytes is not None)
    plan = plan_job(networks, clip, wish, limits, dtype, dtype)
    return plan.told(), describe(plan.decode, clip.latent_size[2], clip.vae, dtype)


def networks_named(question: Question, dtype: torch.dtype) -> Networks:
    """The networks that `model` of the question says."""
    path = Path(question.model)
    if path.exists():
        return networks_of(open_model(path), dtype, question.weights, ())
    name, _, form = question.model.partition(NAME_FROM_FORM)
    return known_networks(name, form or "bf16", question.weights, dtype)


def plan_decode_ahead(
    size: tuple[int, int], frames: int, dtype: torch.dtype, settings: DecodeSettings
) -> DecodePlanned:
    """How a clip of Wan 2.1's VAE would be decoded. Raises NO_PLAN_FITS, INVALID_SIZE and INVALID_FRAMES."""
    vae = VideoVaeConfig()
    clip = Clip.of_pixels(vae, multiple_of(vae, TransformerConfig()), size, frames)
    return describe(plan_decode(clip.latent_size, vae, dtype, settings), clip.latent_size[2], vae, dtype)
