"""The recipe of one job, from command to MP4. Runs on whichever thread calls it, one job at a time."""

import contextlib
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import torch

from engine.attention.backends import backend_states
from engine.cancel import CancelFlag, Cancelled
from engine.canvas import Canvas
from engine.commands import (
    Command,
    ContinueVideo,
    DecodeLatents,
    GenerateVideo,
    JobOutlook,
    PlanJob,
)
from engine.decode.figures import describe
from engine.denoise.compiled import compile_reason
from engine.denoise.speed import speed_of
from engine.device import is_out_of_memory, pick_device, release_memory, use_cpu_threads
from engine.errors import EngineError, ErrorCode
from engine.events import Event, JobCancelled, JobFailed, JobFinished, Stage
from engine.job import Job
from engine.memory.budget import held_bytes
from engine.output.job_folder import default_jobs_folder
from engine.prepare import look, plan_of
from engine.recipes import continue_video, decode_latents, generate_video
from engine.stages import Stages, libraries_bytes


class Engine:
    """Runs jobs. `jobs_folder` is where their commands and latents are kept."""

    def __init__(self, jobs_folder: Path | None = None) -> None:
        use_cpu_threads()
        self._device = pick_device()
        self._jobs_folder = jobs_folder or default_jobs_folder()

    def run(self, command: Command, emit: Callable[[Event], None], canvas: Canvas, cancel: CancelFlag) -> None:
        """Run one job to its end, which `emit` hears last: JobFinished, JobCancelled or JobFailed.

        Raises nothing but what `emit` raises when it hears the end.
        """
        stages = Stages(emit, self._device.torch_device)
        job = Job(emit, canvas, cancel, self._device, stages, self._jobs_folder)
        began = time.perf_counter()
        end: Event
        try:
            with torch.inference_mode():
                run_recipe(job, command)
            end = JobFinished(command.output, time.perf_counter() - began, stages.highest_peak_bytes)
        except Cancelled:
            end = JobCancelled(job.latents, job.kept_steps)
        except Exception as error:
            end = failure(job, error)
        # Only here have the frames of the failed call let go of their tensors. A card that broke down refuses even
        # this, which is no reason to keep the end of the job to oneself.
        with contextlib.suppress(Exception):
            release_memory(self._device.torch_device)
        emit(end)

    def plan_job(self, request: PlanJob) -> JobOutlook:
        """What the job of `request` would take with the memory that is free now; headers are read, nothing is loaded.

        A stage that nothing fits for is told as it would be at its smallest. Raises what `look` and `plan_of` raise.
        """
        device = self._device
        outline = look(device, request.command)
        plan = plan_of(device, self._jobs_folder, outline)
        head_dim = outline.model.transformer.head_dim
        return JobOutlook(
            planned=plan.told(speed_of(device.torch_device, device.network_dtype)),
            decode=describe(plan.decode, outline.clip.latent_size[2], outline.clip.vae, device.vae_dtype),
            width=outline.clip.width,
            height=outline.clip.height,
            backends=backend_states(device.torch_device, device.network_dtype, head_dim),
            compile_reason=compile_reason(device.torch_device),
            ground_bytes=held_bytes(device.torch_device) + libraries_bytes(Stage.DECODE, device.torch_device),
        )


def run_recipe(job: Job, command: Command) -> None:
    """The recipe that belongs to the command. Raises what the recipe raises, and Cancelled."""
    job.cancel.raise_if_set()
    match command:
        case GenerateVideo():
            generate_video(job, command)
        case ContinueVideo():
            continue_video(job, command)
        case DecodeLatents():
            decode_latents(job, command)
        case _:
            assert_never(command)


def failure(job: Job, error: Exception) -> JobFailed:
    """What a person is told about `error`; everything without a code of its own is unexpected."""
    technical = "".join(traceback.format_exception(error))
    if isinstance(error, EngineError):
        return JobFailed(error.code, error.details, technical, job.latents, job.kept_steps)
    if is_out_of_memory(error):
        stage = job.stages.current
        return JobFailed(ErrorCode.OUT_OF_MEMORY, {"stage": stage or ""}, technical, job.latents, job.kept_steps)
    reason = f"{type(error).__name__}: {error}"
    return JobFailed(ErrorCode.UNEXPECTED, {"reason": reason}, technical, job.latents, job.kept_steps)
