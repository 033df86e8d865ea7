"""What happens in a job, in order. Each network lives only inside the function that needs it.

Everything that can be refused is refused before anything is loaded; everything that took long to compute is on
disk before the next stage begins.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from torch import Tensor

from engine.clip import Clip, Decoder, Model, open_decoder, open_model, plan_on
from engine.commands import EMBEDDED_MODEL, Command, ContinueVideo, DecodeLatents, GenerateVideo
from engine.conditions import read_pictures, read_prompts
from engine.decode.figures import describe
from engine.decode.frames import FrameStore
from engine.decode.latents_file import read_latents
from engine.decode.plan import DecodePlan
from engine.denoise.plan import figures
from engine.denoise.speed import speed_of
from engine.device import release_memory
from engine.errors import EngineError
from engine.events import JobStarted, LatentsSaved, Stage
from engine.generation import Given
from engine.job import Job
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from engine.output.finished_video import check_output
from engine.output.interrupted import drop_old_states, settle
from engine.output.job_folder import HALF_DONE_FILES, LOCK_FILE, JobFolder, command_beside, command_in
from engine.output.job_lock import JobLock
from engine.output.metadata import JobRecord
from engine.output.video_writer import Before, VideoFormat, VideoWriter
from engine.pictures.fit import Target
from engine.pictures.given import read_given
from engine.pictures.road import PictureRoad, picture_use
from engine.prepare import Prepared, prepare
from engine.preview import preview_scale, read_factors
from engine.render import decode, encode
from engine.sample_latents import kept_state, sample_latents
from engine.sampling.validation import check_fps
from engine.weights.preview import PreviewFile

DECODE_STAGES = (Stage.DECODE, Stage.ENCODE)
FPS_OF_WAN, FPS_OF_WAN22_VAE = 16, 24


def generate_video(job: Job, command: GenerateVideo) -> None:
    """Prompt, and pictures if there are any, to MP4."""
    prepared = prepare(job, command)
    make_video(job, JobFolder.create(job.jobs_folder, command), prepared)


def continue_video(job: Job, command: ContinueVideo) -> None:
    """A job that ended before its latents were complete, from the last step that is on disk."""
    made = replace(command_in(command.job), output=command.output)
    prepared = prepare(job, made)
    make_video(job, JobFolder.reopen(command.job, made), prepared)


def make_video(job: Job, folder: JobFolder, prepared: Prepared) -> None:
    """The job of `folder` from wherever it is to its MP4."""
    command, clip, plan = prepared.command, prepared.clip, prepared.plan
    job.stages.limit_bytes = command.budget_bytes
    size = (command.width, command.height)
    with folder.recorded_end(command.output), frames_of(job, folder, clip, size, prepared.painter) as store:
        announce(job, folder, clip, size, command.fps, plan.decode, stages_of(prepared))
        job.emit(plan.told(speed_of(job.device.torch_device, job.device.network_dtype)))
        for matched in prepared.loras:
            job.emit(matched)
        latents = keep_latents(job, folder, sampled(job, folder, prepared))
        with VideoWriter(folder.stream, VideoFormat(*size, command.fps), prepared.pictures.before) as writer:
            decode(job, prepared.model.decoder, latents, plan.decode, store, writer, folder.path)
            record = replace(record_of(job, prepared.model, command), sampling=figures(plan.sampling))
            encode(job, command.output, store, writer, record)


def sampled(job: Job, folder: JobFolder, prepared: Prepared) -> Tensor:
    """Clean normalised latents [1, z, T, h, w]; nothing of what they were made from is left when this returns."""
    kept = kept_state(job, folder, prepared)
    texts, conditioning = read_prompts(job, prepared), read_pictures(job, prepared)
    return sample_latents(job, folder, prepared, kept, texts, conditioning)


def stages_of(prepared: Prepared) -> tuple[Stage, ...]:
    """The stages of a job, in order; pictures are read only where there are any."""
    pictures = () if prepared.plan.image is None else (Stage.IMAGE,)
    return (Stage.TEXT, *pictures, Stage.SAMPLE, *DECODE_STAGES)


def decode_latents(job: Job, command: DecodeLatents) -> None:
    """Latents that an earlier job kept to MP4."""
    origin = origin_of(command)
    model = decoder_of(command, origin)
    latents = read_latents(command.latents, model.vae, command.layout, command.space)
    job.latents = command.latents
    fps = frame_rate(command, origin, model.vae)
    clip = Clip(model.vae, tuple(latents.shape))
    plan = plan_on(job.device, clip, command.decode, job.jobs_folder)
    check_output(command.output)
    size = size_of(clip, origin)
    before = frames_before_of(job, command, clip, origin, size)
    folder = JobFolder.create(job.jobs_folder, command)
    with folder.recorded_end(command.output), frames_of(job, folder, clip, size) as store:
        announce(job, folder, clip, size, fps, plan, DECODE_STAGES)
        job.show_preview(latents, read_factors(model.files.latent_rgb, model.vae.z_dim))
        with VideoWriter(folder.stream, VideoFormat(*size, fps), before) as writer:
            decode(job, model, latents, plan, store, writer, folder.path)
            encode(job, command.output, store, writer, record_of(job, model, command, origin))
        settle(command)


def decoder_of(command: DecodeLatents, origin: GenerateVideo | None) -> Decoder:
    """The VAE to decode with: of the model that is asked for, else of the one that made the latents."""
    if command.model is None and origin is not None:
        return open_decoder(origin.model, replace(origin.parts, vae=command.parts.vae or origin.parts.vae))
    return open_decoder(command.model or EMBEDDED_MODEL, command.parts)


def origin_of(command: DecodeLatents) -> GenerateVideo | None:
    """The command that made the latents, where it lies beside them.

    A command that cannot be read (a later version may know more fields) is in the way only when something of it is
    needed: then LATENTS_INVALID is raised.
    """
    try:
        return command_beside(command.latents)
    except EngineError:
        if command.model is None or command.fps is None:
            raise
        return None


def frame_rate(command: DecodeLatents, origin: GenerateVideo | None, vae: VideoVaeConfig) -> int:
    """The frame rate asked for, else that of the job that made the latents, else that of the models of this VAE."""
    own = FPS_OF_WAN22_VAE if isinstance(vae, VideoVae22Config) else FPS_OF_WAN
    made_with = own if origin is None else origin.fps
    fps = made_with if command.fps is None else command.fps
    check_fps(fps)
    return fps


def size_of(clip: Clip, origin: GenerateVideo | None) -> tuple[int, int]:
    """The size of the video: what the job that made the latents was to cut out of them, else all that they show."""
    whole = (clip.width, clip.height)
    if origin is None or origin.frames != clip.frames or origin.width > clip.width or origin.height > clip.height:
        return whole
    return origin.width, origin.height


def frames_before_of(
    job: Job, command: DecodeLatents, clip: Clip, origin: GenerateVideo | None, size: tuple[int, int]
) -> Before | None:
    """The clip that the job that made the latents went on with, which its video begins with.

    None where it went on with none, and where that is gone: then there are the new frames alone. Raises what
    `read_given` raises.
    """
    extended = None if origin is None else origin.given.extend
    if origin is None or extended is None or origin.frames != clip.frames or not extended.is_file():
        return None
    target = target_of(command.model or origin.model, origin, clip, size)
    factor, on_wait = clip.vae.temporal_factor, job.cancel.raise_if_set
    return read_given(Given(extend=extended), target, origin.frames, origin.fps, factor, on_wait).before


def target_of(model: Path, origin: GenerateVideo, clip: Clip, size: tuple[int, int]) -> Target:
    """What the clip of `origin` was fitted to. Where `model` cannot be asked any more, it is covered with the clip."""
    try:
        opened = open_model(model, origin.parts)
    except EngineError:
        return Target(size, clip.vae.spatial_factor, PictureRoad.FRAMES)
    transformer = opened.transformer
    return Target(size, opened.size_multiple, picture_use(transformer, transformer.model_type).road)


@contextlib.contextmanager
def frames_of(
    job: Job, folder: JobFolder, clip: Clip, size: tuple[int, int], painter: PreviewFile | None = None
) -> Iterator[FrameStore]:
    """The frames of the video of `size`, shared with the canvas. Their file goes with the job, the canvas keeps pixels.

    The canvas's preview is as large as `preview_scale` says.
    Windows does not remove a file that the canvas still maps: such a file goes when a later job begins.
    """
    width, height = size
    store = FrameStore(folder.frames, clip.frames, height, width)
    try:
        frames, rows, columns = clip.latent_size
        scale = preview_scale(painter)
        job.canvas.open(store.pixels, frames, scale * rows, scale * columns)
        drop_old_states(job.jobs_folder, time.time())
        remove_left_over(job.jobs_folder, folder.path)  # now that the canvas has let go of the last job's frames
        yield store
    finally:
        with contextlib.suppress(OSError):
            store.delete()


def remove_left_over(jobs_folder: Path, own: Path) -> None:
    """Remove large files that jobs could not or, killed, did not; those of jobs that run, and the `own`, are left."""
    for file in chain.from_iterable(jobs_folder.glob(f"*/{name}") for name in HALF_DONE_FILES):
        lock = None if file.parent == own else JobLock.take(file.with_name(LOCK_FILE))
        if lock is not None:
            with contextlib.suppress(OSError):
                file.unlink()
            lock.release()


def announce(
    job: Job,
    folder: JobFolder,
    clip: Clip,
    size: tuple[int, int],
    fps: int,
    plan: DecodePlan,
    stages: tuple[Stage, ...],
) -> None:
    """Say what will be made and how it will be decoded."""
    job.emit(JobStarted(folder.path, *size, clip.frames, fps, stages))
    job.emit(describe(plan, clip.latent_size[2], clip.vae, job.device.vae_dtype))


def keep_latents(job: Job, folder: JobFolder, latents: Tensor) -> Tensor:
    """Put `latents` on disk and say so; from here on they survive anything. Returns them in host memory."""
    latents = latents.cpu()
    job.latents = folder.save_latents(latents)
    job.kept_steps = 0  # what was kept of sampling went with that
    job.emit(LatentsSaved(job.latents))
    release_memory(job.device.torch_device)
    return latents


def record_of(job: Job, model: Model | Decoder, command: Command, origin: Command | None = None) -> JobRecord:
    """What the MP4 will say about itself."""
    stages = job.stages
    return JobRecord(
        command, origin, model.file_names(), dict(stages.seconds), dict(stages.predicted_bytes),
        dict(stages.budget_bytes), dict(stages.peak_bytes),
    )  # fmt: skip
