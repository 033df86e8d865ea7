"""What steers a sample: prompts and pictures through their encoders, or from the disk if they were there before.

Each encoder lives only inside the function that needs it; on a card its blocks come one after the other. Engine thread.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from engine.decode.one_ahead import OneAhead
from engine.decode.room import room_in_memory
from engine.device import Device, release_memory
from engine.embedding_cache import EmbeddingCache, image_key, text_key
from engine.events import Stage
from engine.job import Job
from engine.models.image_encoder import clip_picture
from engine.models.streamed_text_encoder import encode_texts
from engine.pictures.latents import encode_given, load_encoder
from engine.pictures.pixels import described_pixels
from engine.prepare import Prepared
from engine.sampling.conditioning import NOTHING_GIVEN, Conditioning
from engine.sampling.sampler import Texts
from engine.weights.configs import image_encoder_config
from engine.weights.load import load_tokenizer
from engine.weights.load_swapped import (
    ALL_RESIDENT,
    Residence,
    load_swapped_image_encoder,
    load_swapped_text_encoder,
)

EMBEDDINGS = "embeddings"  # the folder beside that of the jobs
STREAMED = Residence(0, room_in_memory)


def residence_on(device: Device) -> Residence:
    """Where an encoder's blocks lie: each is used once a job, so that none stays on a card, nor leaves its file."""
    return ALL_RESIDENT if device.torch_device.type == "cpu" else STREAMED


def cache_of(job: Job) -> EmbeddingCache:
    """What was encoded before, by any job."""
    return EmbeddingCache(job.jobs_folder.parent / EMBEDDINGS)


def read_prompts(job: Job, prepared: Prepared) -> Texts:
    """The prompt and, where guidance has a use for it, the negative prompt: [1, text_len, C] each, zero behind."""
    command, files, text_len = prepared.command, prepared.model.files, prepared.model.transformer.text_len
    prompts = [command.prompt, command.negative_prompt] if prepared.is_guided else [command.prompt]
    cache, dtype = cache_of(job), job.device.network_dtype
    keys = [text_key(files.text_encoder, files.tokenizer, prompt, text_len, dtype) for prompt in prompts]
    with job.stages.run(Stage.TEXT, prepared.plan.text.predicted_peak_bytes, prepared.plan.budget_bytes):
        found = {key: rows for key in keys if (rows := cache.get(key)) is not None}
        lacking = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in found}
        for key, rows in zip(lacking, encode_prompts(job, prepared, list(lacking.values())), strict=True):
            cache.put(key, rows)
            found[key] = rows
    release_memory(job.device.torch_device)
    texts = [padded(found[key], text_len).to(job.device.torch_device) for key in keys]
    return texts[0], texts[1] if prepared.is_guided else None


def encode_prompts(job: Job, prepared: Prepared, prompts: Sequence[str]) -> list[Tensor]:
    """The rows [L, C] of each of the `prompts`, in host memory; all of them in one pass over the blocks."""
    if not prompts:
        return []
    files, device = prepared.model.files, job.device
    tokenizer = load_tokenizer(files)
    ids = [tokenizer.encode(prompt, prepared.model.transformer.text_len) for prompt in prompts]
    reading, residence = job.reading(Stage.TEXT), residence_on(device)
    loaded = load_swapped_text_encoder(files, device.torch_device, device.network_dtype, reading, residence)
    with contextlib.closing(loaded.swap):
        return [rows.cpu() for rows in encode_texts(loaded.network, ids, loaded.swap.walk, lambda _: job.check())]


def padded(rows: Tensor, text_len: int) -> Tensor:
    """`rows` [L, C] as the transformer attends to them: [1, text_len, C], zero after the last token."""
    return torch.nn.functional.pad(rows, (0, 0, 0, text_len - len(rows)))[None]


def read_pictures(job: Job, prepared: Prepared) -> Conditioning:
    """What the given pictures and clips come to, in host memory."""
    image = prepared.plan.image
    if image is None:
        return NOTHING_GIVEN
    with job.stages.run(Stage.IMAGE, image.predicted_peak_bytes, prepared.plan.budget_bytes):
        features = describe_pictures(job, prepared)
        release_memory(job.device.torch_device)
        conditioning = encode_pictures(job, prepared)
    release_memory(job.device.torch_device)
    return replace(conditioning, image=features)


def describe_pictures(job: Job, prepared: Prepared) -> Tensor | None:
    """CLIP's features of the pictures that the model attends to, [1, I, C]; None for models that attend to none."""
    files, device, used = prepared.model.files.image_encoder, job.device, prepared.use.described
    if files is None or not used:
        return None
    cache, size = cache_of(job), image_encoder_config(files).image_size
    shown = described_pixels(prepared.pictures.described[:used], prepared.target)
    keys = [image_key(files, picture, device.network_dtype) for picture in shown]
    pictures = dict(zip(keys, shown, strict=True))
    found = {key: rows for key in pictures if (rows := cache.get(key)) is not None}
    lacking = [key for key in pictures if key not in found]
    if lacking:
        squashed = torch.cat([clip_picture(pictures[key].to(device.torch_device), size) for key in lacking])
        for key, rows in zip(lacking, run_image_encoder(job, files, squashed), strict=True):
            cache.put(key, rows)
            found[key] = rows
    return torch.cat([found[key] for key in keys])[None]


def run_image_encoder(job: Job, files: tuple[Path, ...], squashed: Tensor) -> Tensor:
    """Features [B, L, C] of what `clip_picture` made, in host memory."""
    device = job.device
    reading, residence = job.reading(Stage.IMAGE), residence_on(device)
    loaded = load_swapped_image_encoder(files, device.torch_device, device.network_dtype, reading, residence)
    with contextlib.closing(loaded.swap):
        rows: Tensor = loaded.network(squashed, lambda _: job.check(), walk=loaded.swap.walk)
        return rows.cpu()


def encode_pictures(job: Job, prepared: Prepared) -> Conditioning:
    """The latents of pictures and clips, by the VAE's encoder in strips."""
    device = job.device
    reading = job.reading(Stage.IMAGE)
    vae = load_encoder(prepared.model.files, device.torch_device, device.vae_dtype, reading)
    on_layer = OneAhead(device.torch_device, job.cancel)
    return encode_given(vae, prepared.pictures, prepared.target, prepared.plan.given, on_layer)
