"""Everything that can be known of a job before it starts, and every refusal: nothing is loaded yet. Engine thread."""

from dataclasses import dataclass, fields
from pathlib import Path

from engine.attention.attend import Attend
from engine.attention.backends import attend_of
from engine.clip import SHARE_OF_FREE_MEMORY, Clip, Model, free_disk_bytes, open_model
from engine.commands import GenerateVideo
from engine.denoise.compiled import check_compile
from engine.denoise.experts import Switch
from engine.device import Device, free_bytes, free_host_bytes
from engine.errors import EngineError, ErrorCode
from engine.events import LoraMatched
from engine.generation import NO_GUIDANCE
from engine.job import Job
from engine.job_plan import JobPlan, Limits, Wish, plan_job
from engine.memory.predict_preview import preview_stage_bytes
from engine.networks import Networks, networks_of
from engine.output.finished_video import check_output
from engine.pictures.fit import Target
from engine.pictures.given import GivenPictures, read_given
from engine.pictures.road import PictureUse, check_given, picture_use
from engine.presets import ModelDefaults, defaults_of_network
from engine.sampling.schedule import Schedule, expert_steps, schedule_for, started_at
from engine.sampling.validation import check_settings
from engine.weights.complete import IMAGE_ENCODER
from engine.weights.inspect import inspect_files
from engine.weights.load import check_weights, match_loras
from engine.weights.lora.use import check_uses
from engine.weights.preview import PreviewFile, find_preview_decoder

DEFAULT_BOUNDARY = 0.875  # of Wan 2.2's text-to-video model, for pairs that nobody published


@dataclass(frozen=True, slots=True)
class Outline:
    """What a command comes to with its model, before pictures are read.

    painter: the decoder of previews, where the model's folder has one.
    """

    command: GenerateVideo
    model: Model
    networks: Networks
    clip: Clip
    target: Target
    use: PictureUse
    schedule: Schedule
    switch: Switch | None
    guidances: tuple[float, ...]
    painter: PreviewFile | None

    @property
    def is_guided(self) -> bool:
        """Whether any step has use for the negative prompt."""
        return any(guidance != NO_GUIDANCE for guidance in self.guidances)


@dataclass(frozen=True, slots=True)
class Prepared(Outline):
    """A job that can start."""

    pictures: GivenPictures
    attend: Attend
    loras: tuple[LoraMatched, ...]
    plan: JobPlan


def prepare(job: Job, command: GenerateVideo) -> Prepared:
    """Look at everything. Raises whatever is in the way of the job."""
    check_settings(command)
    outline, device = look(job.device, command), job.device
    check_weights(outline.model.files)
    loras = tuple(match(outline.model, command))
    check_given(command.given, outline.use)
    check_last(command)
    head_dim = outline.model.transformer.head_dim
    attend = attend_of(command.sampling.attention, device.torch_device, device.network_dtype, head_dim)
    if command.sampling.compile_blocks:
        check_compile(device.torch_device)
    factor, on_wait = outline.clip.vae.temporal_factor, job.cancel.raise_if_set
    pictures = read_given(command.given, outline.target, command.frames, command.fps, factor, on_wait)
    plan = plan_of(device, job.jobs_folder, outline, pictures)
    plan.check()
    check_output(command.output)
    known = {field.name: getattr(outline, field.name) for field in fields(Outline)}
    return Prepared(**known, pictures=pictures, attend=attend, loras=loras, plan=plan)


def look(device: Device, command: GenerateVideo) -> Outline:
    """The model and the clip of `command`. Raises what opening the model raises, INVALID_SIZE and INVALID_FRAMES."""
    model = open_model(command.model, command.parts)
    defaults = defaults_of_network(inspect_files(model.files.transformer).model, model.files.transformer_config)
    use = picture_use(model.transformer, model.transformer.model_type)
    check_image_encoder(model, use)
    target = Target((command.width, command.height), model.size_multiple, use.road)
    schedule = schedule_of(command)
    switch = switch_of(command, model, defaults, schedule)
    folder = model.files.folder
    return Outline(
        command=command,
        model=model,
        networks=networks_of(model, device.network_dtype, command.weights, command.loras),
        clip=Clip.of_pixels(model.vae, model.size_multiple, target.sampled, command.frames),
        target=target,
        use=use,
        schedule=schedule,
        switch=switch,
        guidances=guidances_of(command, defaults, schedule, switch),
        painter=None if folder is None else find_preview_decoder(folder, model.vae.z_dim),
    )


def check_image_encoder(model: Model, use: PictureUse) -> None:
    """See that there is what describes pictures, for a model that attends to that. Raises MODEL_NOT_FOUND."""
    if use.described and model.files.image_encoder is None:
        folder = model.files.folder or model.files.transformer[0].parent
        raise EngineError(ErrorCode.MODEL_NOT_FOUND, folder=str(folder), missing=IMAGE_ENCODER)


def check_last(command: GenerateVideo) -> None:
    """See that a last picture has a frame of its own. Raises INVALID_SETTING."""
    if command.given.last is not None and command.frames == 1:
        allowed = "more than 1, of which the last shows a picture"
        raise EngineError(ErrorCode.INVALID_SETTING, name="frames", value=1, allowed=allowed)


def schedule_of(command: GenerateVideo) -> Schedule:
    """The steps of `command`; those of a clip that is made anew begin where it is noised enough."""
    schedule = schedule_for(command.solver, command.steps, command.shift, command.times)
    return schedule if command.given.restyle is None else started_at(schedule, command.given.strength)


def switch_of(command: GenerateVideo, model: Model, defaults: ModelDefaults, schedule: Schedule) -> Switch | None:
    """Where the second transformer of `model` takes over; None for a model of one."""
    boundary = defaults.boundary if command.boundary is None else command.boundary
    if model.files.low_noise is None:
        return None
    return Switch(expert_steps(schedule, DEFAULT_BOUNDARY if boundary is None else boundary))


def guidances_of(
    command: GenerateVideo, defaults: ModelDefaults, schedule: Schedule, switch: Switch | None
) -> tuple[float, ...]:
    """The guidance of every step. That of the second transformer is the model's own unless the command says so.

    A command without guidance means both.
    """
    own = command.guidance if command.guidance == NO_GUIDANCE else defaults.guidance_low
    second = next(value for value in (command.guidance_low, own, command.guidance) if value is not None)
    first_steps = schedule.steps if switch is None else switch.step
    return tuple(command.guidance if step < first_steps else second for step in range(schedule.steps))


def match(model: Model, command: GenerateVideo) -> list[LoraMatched]:
    """What the model takes of each LoRA, from the headers alone. Raises INVALID_SETTING and MODEL_INVALID."""
    check_uses(command.loras, has_experts=model.files.low_noise is not None)
    return [
        LoraMatched(lora.checkpoint.files[0], len(lora.sources), tuple(lora.skipped), tuple(lora.unmatched))
        for lora in match_loras(model.files, command.loras)
    ]


def plan_of(device: Device, jobs_folder: Path, outline: Outline, pictures: GivenPictures | None = None) -> JobPlan:
    """The plan of a job with the memory that is free now. Raises what `plan_job` raises."""
    command, painter = outline.command, outline.painter
    beside = 0 if painter is None else preview_stage_bytes(painter.config, outline.clip.latent_size, device)
    wish = Wish(
        outline.target,
        command.given,
        guided=outline.is_guided,
        sampling=command.sampling,
        decode=command.decode,
        pictures=pictures,
        beside_sampling_bytes=beside,
    )
    limits = limits_on(device, jobs_folder, command.budget_bytes)
    return plan_job(outline.networks, outline.clip, wish, limits, device.network_dtype, device.vae_dtype)


def limits_on(device: Device, jobs_folder: Path, budget_bytes: int | None) -> Limits:
    """What may be used: of the card the budget or most of what is free, and most of host memory and of the disk."""
    free = int(free_bytes(device) * SHARE_OF_FREE_MEMORY)
    is_card = device.torch_device.type != "cpu"
    return Limits(
        free if budget_bytes is None else budget_bytes,
        int(free_host_bytes() * SHARE_OF_FREE_MEMORY),
        int(free_disk_bytes(jobs_folder) * SHARE_OF_FREE_MEMORY),
        one_memory=not is_card,
        is_reserved=is_card and budget_bytes is not None,
    )
