"""What happens in a job, in order. Each network lives only inside the function that needs it.

Everything that can be refused is refused before anything is loaded; everything that took long to compute is on
disk before the next stage begins.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from engine.clip import Clip, Decoder, Model, open_decoder, open_model, plan_on
from engine.commands import EMBEDDED_MODEL, Command, DecodeLatents, GenerateVideo
from engine.decode.figures import describe
from engine.decode.frames import FrameStore
from engine.decode.latents_file import read_latents
from engine.decode.plan import DecodePlan
from engine.device import release_memory
from engine.errors import EngineError, ErrorCode
from engine.events import JobStarted, LatentsSaved, LoraMatched, ProductsChosen, Stage
from engine.job import Job
from engine.memory.predict import encoding_bytes, sampling_bytes
from engine.memory.predict_preview import preview_stage_bytes
from engine.models.quantized_linear import products_of
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from engine.output.finished_video import check_output
from engine.output.interrupted import settle
from engine.output.job_folder import HALF_DONE_FILES, LOCK_FILE, JobFolder, command_beside
from engine.output.job_lock import JobLock
from engine.output.metadata import JobRecord
from engine.output.video_writer import VideoFormat, VideoWriter
from engine.preview import Preview, preview_scale, read_factors
from engine.render import decode, encode
from engine.sampling.sampler import encode_prompts, sample
from engine.sampling.validation import check_fps, check_settings
from engine.weights.configs import text_encoder_config
from engine.weights.load import (
    check_weights,
    load_text_encoder,
    load_tokenizer,
    load_transformer,
    match_loras,
    text_encoder_bytes,
    transformer_bytes,
)
from engine.weights.lora.use import check_uses
from engine.weights.preview import PreviewFile, find_preview_decoder, load_preview_decoder

GENERATE_STAGES = (Stage.LOAD, Stage.TEXT, Stage.SAMPLE, Stage.DECODE, Stage.ENCODE)
DECODE_STAGES = (Stage.DECODE, Stage.ENCODE)
FPS_OF_WAN, FPS_OF_WAN22_VAE = 16, 24

Texts = tuple[Tensor, Tensor | None]


def generate_video(job: Job, command: GenerateVideo) -> None:
    """Prompt to MP4."""
    check_settings(command)
    model = open_model(command.model, command.parts)
    check_weights(model.files)
    check_runnable(model)
    loras = check_loras(model, command)
    folder_of_model = model.files.folder
    painter = None if folder_of_model is None else find_preview_decoder(folder_of_model, model.vae.z_dim)
    clip = Clip.of_pixels(model.vae, model.size_multiple, (command.width, command.height), command.frames)
    plan = plan_on(job.device, clip, command.decode, job.jobs_folder)
    check_output(command.output)
    folder = JobFolder.create(job.jobs_folder, command)
    with folder.recorded_end(command.output), frames_of(job, folder, clip, painter) as store:
        announce(job, folder, clip, command.fps, plan, GENERATE_STAGES)
        for matched in loras:
            job.emit(matched)
        texts = read_prompts(job, command, model)
        latents = keep_latents(job, folder, sample_latents(job, command, model, clip, texts, painter))
        with VideoWriter(folder.stream, VideoFormat(clip.width, clip.height, command.fps)) as writer:
            decode(job, model.decoder, latents, plan, store, writer, folder.path)
            encode(job, command.output, store, writer, record_of(job, model, command))


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
    folder = JobFolder.create(job.jobs_folder, command)
    with folder.recorded_end(command.output), frames_of(job, folder, clip) as store:
        announce(job, folder, clip, fps, plan, DECODE_STAGES)
        job.show_preview(latents, read_factors(model.files.latent_rgb, model.vae.z_dim))
        with VideoWriter(folder.stream, VideoFormat(clip.width, clip.height, fps)) as writer:
            decode(job, model, latents, plan, store, writer, folder.path)
            encode(job, command.output, store, writer, record_of(job, model, command, origin))
        settle(command)


def decoder_of(command: DecodeLatents, origin: GenerateVideo | None) -> Decoder:
    """The VAE to decode with: of the model that is asked for, else of the one that made the latents."""
    if command.model is None and origin is not None:
        return open_decoder(origin.model, replace(origin.parts, vae=command.parts.vae or origin.parts.vae))
    return open_decoder(command.model or EMBEDDED_MODEL, command.parts)


def check_runnable(model: Model) -> None:
    """Raises MODEL_INVALID for a model that needs more than a prompt."""
    if model.files.low_noise is not None:
        reason = "models of two transformers cannot be sampled yet"
    elif model.transformer.in_dim != model.transformer.out_dim:
        reason = "models that start from a picture cannot be sampled yet"
    else:
        return
    raise EngineError(ErrorCode.MODEL_INVALID, file=str(model.files.transformer[0]), reason=reason)


def check_loras(model: Model, command: GenerateVideo) -> list[LoraMatched]:
    """What the model takes of each LoRA, from the headers alone. Raises INVALID_SETTING and MODEL_INVALID."""
    check_uses(command.loras, has_experts=model.files.low_noise is not None)
    return [
        LoraMatched(lora.checkpoint.files[0], len(lora.sources), tuple(lora.skipped), tuple(lora.unmatched))
        for lora in match_loras(model.files, command.loras)
    ]


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


@contextlib.contextmanager
def frames_of(job: Job, folder: JobFolder, clip: Clip, painter: PreviewFile | None = None) -> Iterator[FrameStore]:
    """The frames of the job, shared with the canvas. Their file goes with the job; the canvas keeps the pixels.

    The canvas's preview is as large as `preview_scale` says.
    Windows does not remove a file that the canvas still maps: such a file goes when a later job begins.
    """
    store = FrameStore(folder.frames, clip.frames, clip.height, clip.width)
    try:
        frames, rows, columns = clip.latent_size
        scale = preview_scale(painter)
        job.canvas.open(store.pixels, frames, scale * rows, scale * columns)
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


def announce(job: Job, folder: JobFolder, clip: Clip, fps: int, plan: DecodePlan, stages: tuple[Stage, ...]) -> None:
    """Say what will be made and how it will be decoded."""
    job.emit(JobStarted(folder.path, clip.width, clip.height, clip.frames, fps, stages))
    job.emit(describe(plan, clip.latent_size[2], clip.vae, job.device.vae_dtype))


def read_prompts(job: Job, command: GenerateVideo, model: Model) -> Texts:
    """The encoded prompts; the encoder is gone when this returns."""
    device, dtype = job.device.torch_device, job.device.network_dtype
    config = text_encoder_config(model.files)
    with job.stages.run(Stage.LOAD, text_encoder_bytes(model.files, dtype)):
        tokenizer = load_tokenizer(model.files)
        encoder = load_text_encoder(model.files, device, dtype, job.reading(Stage.LOAD))
    with job.stages.run(Stage.TEXT, encoding_bytes(config, model.transformer.text_len, dtype)):
        texts = encode_prompts(job, command, tokenizer, encoder, model.transformer.text_len)
    job.cancel.raise_if_set()
    return texts


def sample_latents(
    job: Job, command: GenerateVideo, model: Model, clip: Clip, texts: Texts, painter: PreviewFile | None
) -> Tensor:
    """Clean normalised latents [1, z, T, h, w]; the transformer is gone when this returns."""
    release_memory(job.device.torch_device)
    preview: Preview | None = read_factors(model.files.latent_rgb, model.vae.z_dim)
    device, dtype = job.device.torch_device, job.device.network_dtype
    peak = transformer_bytes(model.files, dtype, command.weights, command.loras)
    peak += sampling_bytes(model.transformer, clip.latent_size, dtype)
    if painter is not None:
        peak += preview_stage_bytes(painter.config, clip.latent_size, job.device)
    with job.stages.run(Stage.SAMPLE, peak) as progress:
        transformer = load_transformer(
            model.files,
            device,
            dtype,
            job.reading(Stage.SAMPLE),
            form=command.weights,
            loras=command.loras,
            rounds_input=command.rounds_input,
        )
        for (product, why), layers in products_of(transformer, device).items():
            job.emit(ProductsChosen(product, why, layers))
        if painter is not None:
            preview = load_preview_decoder(painter, device, dtype, job.cancel.raise_if_set)
        latents = sample(job, command, transformer, texts, clip.shape, preview, progress)
    if not torch.isfinite(latents).all():
        reason = "its values are not finite"
        raise EngineError(ErrorCode.MODEL_INVALID, file=str(command.model), reason=reason)
    return latents


def keep_latents(job: Job, folder: JobFolder, latents: Tensor) -> Tensor:
    """Put `latents` on disk and say so; from here on they survive anything. Returns them in host memory."""
    latents = latents.cpu()
    job.latents = folder.save_latents(latents)
    job.emit(LatentsSaved(job.latents))
    release_memory(job.device.torch_device)
    return latents


def record_of(job: Job, model: Model | Decoder, command: Command, origin: Command | None = None) -> JobRecord:
    """What the MP4 will say about itself."""
    return JobRecord(command, origin, model.file_names(), dict(job.stages.seconds), dict(job.stages.peak_bytes))
