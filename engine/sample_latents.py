"""The sampling stage of a job: transformers loaded as its plan says, steps kept as they are finished. Engine thread."""

from dataclasses import replace

import torch
from torch import Tensor

from engine.clip import SHARE_OF_FREE_MEMORY
from engine.decode.room import Room, room_in_memory, room_on_host
from engine.denoise.block_pieces import BlockInPieces
from engine.denoise.compiled import compiled_pieces
from engine.denoise.experts import Experts
from engine.device import free_host_bytes, release_memory
from engine.errors import EngineError, ErrorCode
from engine.events import ProductsChosen, Stage
from engine.job import Job
from engine.models.quantized_linear import products_of
from engine.models.transformer import WanTransformer
from engine.output.job_folder import JobFolder
from engine.prepare import Prepared
from engine.preview import Preview, read_factors
from engine.sampling.checkpoint import SamplingState, fingerprint
from engine.sampling.conditioning import Conditioning
from engine.sampling.keeping import Keeping
from engine.sampling.sampler import Texts, Way, sample
from engine.sampling.solvers import step_of
from engine.weights.load_swapped import Residence, Swapped, TransformerLoading, load_swapped_transformer
from engine.weights.preview import load_preview_decoder
from engine.weights.provenance import Expert

FORGOTTEN = 1.0  # the strength at which nothing is left of a clip that is made anew


def kept_state(job: Job, folder: JobFolder, prepared: Prepared) -> SamplingState | None:
    """What the folder has of an earlier go, in host memory: read before anything is loaded, since it may be refused.

    Raises LATENTS_INVALID for a state that is damaged or does not belong to the job.
    """
    state = folder.read_state(fingerprint_of(prepared))
    job.kept_steps = 0 if state is None else state.step
    return state


def sample_latents(
    job: Job,
    folder: JobFolder,
    prepared: Prepared,
    kept: SamplingState | None,
    texts: Texts,
    conditioning: Conditioning,
) -> Tensor:
    """Clean normalised latents [1, z, T, h, w], from what was `kept` on; the transformers are gone when this returns.

    Raises MODEL_INVALID when they are not finite.
    """
    release_memory(job.device.torch_device)
    command, plan = prepared.command, prepared.plan
    with job.stages.run(Stage.SAMPLE, plan.sampling.predicted_peak_bytes, plan.budget_bytes) as progress:
        way = way_of(prepared, texts, conditioning)
        state = way.start(prepared.clip.shape, command.seed) if kept is None else kept
        way = way.begun(job.device.torch_device)
        experts = experts_of(job, prepared)
        try:
            with Keeping(folder.keep_state, job.keep_steps) as keeping:
                latents = sample(job, way, experts, state, keeping.take, preview_of(job, prepared), progress)
        finally:
            experts.close()
    if not torch.isfinite(latents).all():
        reason = "its values are not finite"
        raise EngineError(ErrorCode.MODEL_INVALID, file=str(command.model), reason=reason)
    return latents


def way_of(prepared: Prepared, texts: Texts, conditioning: Conditioning) -> Way:
    """What the job's steps have in common. A clip that is to be forgotten is no start, wherever the schedule begins."""
    command = prepared.command
    if command.given.strength == FORGOTTEN:
        conditioning = replace(conditioning, start=None)
    return Way(
        prepared.schedule,
        step_of(command.solver, command.seed),
        prepared.guidances,
        texts,
        conditioning,
        command.sampling.joint_guidance,
        command.sampling.step_cache,
        fingerprint_of(prepared),
    )


def fingerprint_of(prepared: Prepared) -> str:
    """What the kept state of the job is known by: its command and every file that its latents depend on."""
    files = prepared.model.files
    stated = (files.tokenizer, files.transformer_config, files.vae_config)
    named = (
        *files.transformer,
        *(files.low_noise or ()),
        *files.text_encoder,
        *files.vae,
        *(files.image_encoder or ()),
        *(file for file in stated if file is not None and file not in files.text_encoder),
    )
    return fingerprint(prepared.command, named)


def experts_of(job: Job, prepared: Prepared) -> Experts:
    """The transformers, none of them loaded yet."""

    def load(expert: Expert | None, resident_blocks: int) -> Swapped[WanTransformer]:
        return load_transformer(job, prepared, expert, resident_blocks)

    is_compiled = prepared.command.sampling.compile_blocks
    in_pieces = compiled_pieces(job.device.torch_device) if is_compiled else BlockInPieces
    second = prepared.model.files.low_noise or ()
    return Experts(load, prepared.attend, prepared.plan.sampling, prepared.switch, in_pieces, second)


def load_transformer(
    job: Job, prepared: Prepared, expert: Expert | None, resident_blocks: int
) -> Swapped[WanTransformer]:
    """One transformer in the form that was asked for; how its quantised layers are computed is told."""
    command, device = prepared.command, job.device
    loading = TransformerLoading(command.weights, command.loras, command.rounds_input, expert)
    loaded = load_swapped_transformer(
        prepared.model.files,
        device.torch_device,
        device.network_dtype,
        job.reading(Stage.SAMPLE),
        loading,
        Residence(resident_blocks, room_for(prepared)),
    )
    for (product, why), layers in products_of(loaded.network, device.torch_device).items():
        job.emit(ProductsChosen(product, why, layers))
    return loaded


def room_for(prepared: Prepared) -> Room:
    """Where swapped blocks wait: in page-locked memory where there is enough, else in their files."""
    has_room = prepared.plan.sampling.host_bytes <= free_host_bytes() * SHARE_OF_FREE_MEMORY
    return room_on_host if has_room or not prepared.networks.in_files else room_in_memory


def preview_of(job: Job, prepared: Prepared) -> Preview | None:
    """What paints the latents while they are sampled."""
    model, device = prepared.model, job.device
    if prepared.painter is None:
        return read_factors(model.files.latent_rgb, model.vae.z_dim)
    return load_preview_decoder(prepared.painter, device.torch_device, device.network_dtype, job.cancel.raise_if_set)
