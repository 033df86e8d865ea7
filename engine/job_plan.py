"""What every stage of a job will take on the card, and how it is cut: decided before anything is loaded. Pure.

All bytes are live tensor bytes with weights, on top of what is held before the stage.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from engine.clip import Clip
from engine.commands import DecodeSettings
from engine.decode.plan import DecodePlan
from engine.decode.plan import plan as plan_decode
from engine.denoise.plan import SamplingPlan, figures, plan_sampling
from engine.denoise.speed import Speed, seconds_a_step
from engine.errors import EngineError, ErrorCode
from engine.events import JobPlanned, Stage, StageOutlook
from engine.generation import Given, SamplingSettings
from engine.memory.block_swap import swapped_peak
from engine.memory.hold import overhead_bytes, tensor_bytes_in
from engine.memory.predict import encoding_bytes, image_encoding_bytes
from engine.networks import Networks
from engine.pictures.fit import Target
from engine.pictures.given import GivenPictures
from engine.pictures.latents import GivenPlan, plan_given
from engine.pictures.road import PictureRoad, PictureUse
from engine.weights.card import NetworkBytes

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Limits:
    """What there is to be had: on the card, in host memory and on the disk; None is no limit.

    one_memory: card and host are the same, as on a CPU. is_reserved: the budget is for all that a card reserves, and
    not for live tensors alone.
    """

    budget_bytes: int | None = None
    host_bytes: int | None = None
    file_bytes: int = 0
    one_memory: bool = False
    is_reserved: bool = False

    @property
    def tensor_bytes(self) -> int | None:
        """What live tensors may take of the budget."""
        if self.budget_bytes is None or not self.is_reserved:
            return self.budget_bytes
        return tensor_bytes_in(self.budget_bytes)

    def outlook(self, stage: Stage, peak_bytes: int, smallest_bytes: int) -> StageOutlook:
        """What `stage` is told to take, of tensors that take `peak_bytes` as planned and `smallest_bytes` at least."""
        beside, least = map(overhead_bytes, (peak_bytes, smallest_bytes)) if self.is_reserved else (0, 0)
        return StageOutlook(stage, peak_bytes, smallest_bytes + least, self.budget_bytes, beside)


@dataclass(frozen=True, slots=True)
class Wish:
    """What of a command its plan depends on, beside the model and the clip.

    guided: whether a second pass with the negative prompt is run. pictures: what was read of `given`, once it was.
    beside_sampling_bytes: of what paints previews.
    """

    target: Target
    given: Given = field(default_factory=Given)
    guided: bool = True
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    pictures: GivenPictures | None = None
    beside_sampling_bytes: int = 0


@dataclass(frozen=True, slots=True)
class JobPlan:
    """The plans of all stages that have one; stages that are not run are None."""

    text: StageOutlook
    given: GivenPlan
    image: StageOutlook | None
    sampling: SamplingPlan
    sampled: StageOutlook
    decode: DecodePlan
    decoded: StageOutlook
    budget_bytes: int | None

    @property
    def stages(self) -> tuple[StageOutlook, ...]:
        """The outlooks in the order the stages run."""
        return tuple(stage for stage in (self.text, self.image, self.sampled, self.decoded) if stage is not None)

    def check(self) -> None:
        """Raise NO_PLAN_FITS for the stage that needs the most, unless all keep to their budgets."""
        lacking = [stage for stage in self.stages if not stage.fits]
        if lacking:
            worst = max(lacking, key=lambda stage: stage.smallest_bytes)
            raise EngineError(
                ErrorCode.NO_PLAN_FITS, budget_bytes=worst.budget_bytes or 0, smallest_bytes=worst.smallest_bytes
            )

    def told(self, speed: Speed | None = None) -> JobPlanned:
        """What is told of the plan, with the seconds of a step on a device of known speed."""
        seconds = None if speed is None else seconds_a_step(self.sampling, speed)
        return JobPlanned(self.stages, figures(self.sampling, seconds), self.budget_bytes)


def plan_job(
    networks: Networks, clip: Clip, wish: Wish, limits: Limits, dtype: torch.dtype, vae_dtype: torch.dtype
) -> JobPlan:
    """The plan of a job on `clip`: the fastest in its limits, and the smallest for a stage that nothing fits for.

    Raises INVALID_SETTING and INVALID_SIZE, and NO_PLAN_FITS where host memory is what is lacking.
    """
    budget = limits.tensor_bytes

    def decode_in(budget_bytes: int | None) -> DecodePlan:
        settings = replace(wish.decode, budget_bytes=budget_bytes)
        return plan_decode(
            clip.latent_size, clip.vae, vae_dtype, settings, limits.host_bytes,
            file_bytes_available=limits.file_bytes, one_memory=limits.one_memory,
        )  # fmt: skip

    def given_in(budget_bytes: int | None) -> GivenPlan:
        return plan_given(wish.given, wish.target, clip.frames, clip.vae, vae_dtype, budget_bytes, wish.pictures)

    def sample_in(budget_bytes: int | None) -> SamplingPlan:
        use = networks.pictures
        return plan_sampling(
            networks.transformer, clip.latent_size, dtype, networks.transformer_bytes, wish.sampling, budget_bytes,
            None if networks.in_files and not limits.one_memory else limits.host_bytes,
            guided=wish.guided,
            image_tokens=0 if networks.image_encoder is None else use.described * networks.image_encoder.tokens,
            runs=clip.latent_size[0] if has_known_frames(wish.given, use) else 1,
            beside_bytes=wish.beside_sampling_bytes + (networks.transformer_bytes.host if limits.one_memory else 0),
            one_memory=limits.one_memory,
        )  # fmt: skip

    own = wish.decode.budget_bytes
    has_own = own is not None and (budget is None or own < budget)
    of_decode = Limits(own) if has_own else limits
    given, text = inside(given_in, budget), text_peak(networks, wish, dtype, limits)
    sampling, decode = inside(sample_in, budget), inside(decode_in, of_decode.tensor_bytes)
    return JobPlan(
        text=limits.outlook(Stage.TEXT, text, text),
        given=given,
        image=_image_outlook(networks, wish, given, dtype, limits),
        sampling=sampling,
        sampled=limits.outlook(Stage.SAMPLE, sampling.predicted_peak_bytes, sampling.smallest_bytes),
        decode=decode,
        decoded=of_decode.outlook(Stage.DECODE, decode.predicted_peak_bytes, smallest_of(decode_in)),
        budget_bytes=limits.budget_bytes,
    )


def inside(make: Callable[[int | None], P], budget_bytes: int | None) -> P:
    """The plan that `make` makes inside the budget, or the smallest where there is none."""
    try:
        return make(budget_bytes)
    except EngineError as error:
        if error.code is not ErrorCode.NO_PLAN_FITS or error.details["budget_bytes"] != budget_bytes:
            raise
        return make(int(error.details["smallest_bytes"]))


def smallest_of(make: Callable[[int | None], object]) -> int:
    """The least that a plan of `make` comes down to on the card."""
    try:
        make(0)
    except EngineError as error:
        if error.code is not ErrorCode.NO_PLAN_FITS:
            raise
        return int(error.details["smallest_bytes"])
    return 0


def has_known_frames(given: Given, use: PictureUse) -> bool:
    """Whether some latent frames are given without noise, so that every latent frame has a time of its own."""
    return use.road is PictureRoad.FRAMES and (given.first is not None or given.extend is not None)


def text_peak(networks: Networks, wish: Wish, dtype: torch.dtype, limits: Limits) -> int:
    """What encoding the prompts takes, the encoder block by block where there is a card."""
    prompts = 2 if wish.guided else 1
    work = encoding_bytes(networks.text_encoder, networks.transformer.text_len, dtype, prompts)
    return _weights(networks.text_encoder_bytes, limits) + work


def _image_outlook(
    networks: Networks, wish: Wish, given: GivenPlan, dtype: torch.dtype, limits: Limits
) -> StageOutlook | None:
    """Describing pictures and encoding them, one after the other; None where nothing is given."""
    described = 0
    if networks.image_encoder is not None and networks.image_encoder_bytes is not None:
        pictures = networks.pictures.described
        work = image_encoding_bytes(networks.image_encoder, pictures, dtype)
        described = _weights(networks.image_encoder_bytes, limits) + work
    peak = max(described, given.predicted_peak_bytes)
    smallest = max(described, given.smallest_bytes)
    return limits.outlook(Stage.IMAGE, peak, smallest) if given.plans else None


def _weights(network: NetworkBytes, limits: Limits) -> int:
    """An encoder's weights as they lie where it computes: on a card two blocks at a time."""
    if limits.one_memory:
        return network.total + network.work
    return network.shell + swapped_peak(network.blocks, 0) + network.work
