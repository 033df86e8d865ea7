"""The networks of a model with their weights: built without memory, then given the stored values. Engine's thread."""

from collections.abc import Sequence
from functools import partial
from math import prod
from pathlib import Path

import torch

from engine.model_choice import LoraUse, WeightForm
from engine.models.float32_islands import keeps_float32
from engine.models.image_encoder import ImageEncoder
from engine.models.text_encoder import TextEncoder
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import WanTransformer
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import vae_of
from engine.weights.card import loaded_bytes
from engine.weights.checkpoint import Checkpoint
from engine.weights.configs import image_encoder_config, shapes_of, text_encoder_config, vae_config
from engine.weights.containers import open_checkpoint
from engine.weights.dequantize import WORK_BYTES
from engine.weights.detect import ModelFiles, VaeFiles
from engine.weights.families import Role
from engine.weights.header import invalid, said
from engine.weights.lora.apply import apply_loras, open_loras
from engine.weights.lora.file import LoraFile
from engine.weights.place import OnRead, Target, give_weights, ignore
from engine.weights.shards import parts_of
from engine.weights.source import QuantFormat
from engine.weights.tokenizer_source import read_sentencepiece
from engine.weights.transformer_config import transformer_config
from engine.weights.whole import describe, open_network

ISLAND_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16}  # wider, the values would say no more
FLOAT32_BYTES, MERGED_AT_ONCE = 4, 4  # a weight, the change of it, their sum, and what DoRA makes of it
QUANTIZED_FORMS = {WeightForm.FP8_SCALED: QuantFormat.FP8_E4M3, WeightForm.FP4_SCALED: QuantFormat.NVFP4}


def check_weights(files: ModelFiles) -> None:
    """See from the headers alone that all networks can be loaded and fit together. Raises MODEL_INVALID."""
    transformer, encoder = transformer_config(files), text_encoder_config(files)
    vae_config(files)
    if files.low_noise is not None:
        describe(files.low_noise, Role.TRANSFORMER)
    if files.image_encoder is not None:
        image_encoder_config(files.image_encoder)
    if encoder.dim != transformer.text_dim:
        reason = f"it makes {encoder.dim} channels, the transformer takes {transformer.text_dim}"
        raise invalid(files.text_encoder[0], reason)
    pieces = load_tokenizer(files).size
    if pieces > encoder.vocab_size:
        raise invalid(files.tokenizer, f"it has {pieces} pieces, the text encoder knows {encoder.vocab_size}")


def load_transformer(
    files: ModelFiles,
    device: torch.device,
    dtype: torch.dtype,
    on_read: OnRead = ignore,
    *,
    form: WeightForm = WeightForm.STORED,
    loras: Sequence[LoraUse] = (),
    rounds_input: bool = False,
) -> WanTransformer:
    """The transformer, its products in `dtype`. Raises MODEL_INVALID.

    What it computes in float32 is kept as it is stored, and widened when it is used. Layers that are stored quantised
    stay so, all large ones are brought into `form` if it says so, and `loras` are put on top. Here and below
    `on_read` is told before each tensor, and at the end, how many bytes were read; what it raises leaves the call.
    """
    with torch.device("meta"):
        model = WanTransformer(transformer_config(files))
    opened = open_network(files.transformer, Role.TRANSFORMER)
    changes = open_loras(loras, shapes_of(opened.description), _open_lora)
    header, sources = opened.checkpoint.header, opened.description.sources

    def dtype_of(name: str) -> torch.dtype:
        return ISLAND_DTYPES.get(header[sources[name].name].dtype, torch.float32) if keeps_float32(name) else dtype

    give_weights(model, opened, Target(device, dtype_of, on_read, QUANTIZED_FORMS.get(form), rounds_input))
    apply_loras(model, changes, dtype, partial(on_read, 0, 0))
    return model


def match_loras(files: ModelFiles, uses: Sequence[LoraUse]) -> list[LoraFile]:
    """What each LoRA changes of the transformer, from the headers alone; those of strength 0 are left out.

    Raises MODEL_INVALID for one that is for another model.
    """
    shapes = shapes_of(describe(files.transformer, Role.TRANSFORMER))
    return [active.lora for active in open_loras(uses, shapes, _open_lora)]


def transformer_bytes(files: ModelFiles, dtype: torch.dtype, form: WeightForm, loras: Sequence[LoraUse]) -> int:
    """What `load_transformer` will hold, and what a quantised layer works with. Raises MODEL_INVALID."""
    model = describe(files.transformer, Role.TRANSFORMER)
    held = loaded_bytes(model, form, dtype.itemsize)
    is_quantized = form is not WeightForm.STORED or any(source.quantization for source in model.sources.values())
    if is_quantized:  # LoRAs lie beside layers that cannot take them in
        headers = [lora.checkpoint.header for lora in match_loras(files, loras)]
        held += sum(prod(info.shape) * FLOAT32_BYTES for header in headers for info in header.values())
        return held + WORK_BYTES
    changed = (source.shape for lora in match_loras(files, loras) for source in lora.sources.values())
    return held + MERGED_AT_ONCE * FLOAT32_BYTES * max(map(prod, changed), default=0)


def text_encoder_bytes(files: ModelFiles, dtype: torch.dtype) -> int:
    """What `load_text_encoder` will hold, and what a quantised layer works with. Raises MODEL_INVALID."""
    model = describe(files.text_encoder, Role.TEXT_ENCODER)
    is_quantized = any(source.quantization for source in model.sources.values())
    return loaded_bytes(model, WeightForm.STORED, dtype.itemsize) + (WORK_BYTES if is_quantized else 0)


def _open_lora(path: Path) -> Checkpoint:
    return open_checkpoint(parts_of(path))


def load_text_encoder(
    files: ModelFiles, device: torch.device, dtype: torch.dtype, on_read: OnRead = ignore
) -> TextEncoder:
    """The text encoder in `dtype`; layers that are stored quantised stay so. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = TextEncoder(text_encoder_config(files))
    opened = open_network(files.text_encoder, Role.TEXT_ENCODER)
    give_weights(model, opened, Target(device, lambda _: dtype, on_read))
    return model


def load_image_encoder(
    files: tuple[Path, ...], device: torch.device, dtype: torch.dtype, on_read: OnRead = ignore
) -> ImageEncoder:
    """The half of CLIP that sees, in `dtype`. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = ImageEncoder(image_encoder_config(files))
    give_weights(model, open_network(files, Role.IMAGE_ENCODER), Target(device, lambda _: dtype, on_read))
    return model


def load_vae(files: VaeFiles, device: torch.device, dtype: torch.dtype, on_read: OnRead = ignore) -> VideoVae:
    """The VAE of either kind in `dtype`. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = vae_of(vae_config(files))
    give_weights(model, open_network(files.vae, Role.VAE), Target(device, lambda _: dtype, on_read))
    return model


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer. Raises MODEL_INVALID."""
    model = read_sentencepiece(files.tokenizer)
    try:
        return Tokenizer(model)
    except (RuntimeError, ValueError) as error:
        raise invalid(files.tokenizer, said(error)) from error
