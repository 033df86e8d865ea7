"""The networks of a model with their weights: built without memory, then given the stored values. Engine's thread."""

from collections.abc import Sequence
from pathlib import Path

import torch

from engine.model_choice import LoraUse, WeightForm
from engine.models.image_encoder import ImageEncoder
from engine.models.text_encoder import TextEncoder
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import WanTransformer
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import vae_of
from engine.weights.configs import image_encoder_config, text_encoder_config, vae_config
from engine.weights.detect import ModelFiles, VaeFiles
from engine.weights.families import Role
from engine.weights.header import invalid, said
from engine.weights.load_swapped import (
    TransformerLoading,
    load_swapped_transformer,
    matched,
)
from engine.weights.lora.file import LoraFile
from engine.weights.place import OnRead, Target, give_weights, ignore
from engine.weights.tokenizer_source import read_sentencepiece
from engine.weights.transformer_config import transformer_config
from engine.weights.whole import describe, open_network


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
    """The whole transformer on `device`, as `load_swapped_transformer` says. Raises MODEL_INVALID."""
    settings = TransformerLoading(form, tuple(loras), rounds_input)
    return load_swapped_transformer(files, device, dtype, on_read, settings).network.to(device)


def match_loras(files: ModelFiles, uses: Sequence[LoraUse]) -> list[LoraFile]:
    """What each LoRA changes of the transformer, from the headers alone; those of strength 0 are left out.

    Raises MODEL_INVALID for one that is for another model.
    """
    return matched(describe(files.transformer, Role.TRANSFORMER), uses)


def load_text_encoder(
    files: ModelFiles, device: torch.device, dtype: torch.dtype, on_read: OnRead = ignore
) -> TextEncoder:
    """The whole text encoder on `device` in `dtype`; layers that are stored quantised stay so. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = TextEncoder(text_encoder_config(files))
    opened = open_network(files.text_encoder, Role.TEXT_ENCODER)
    give_weights(model, opened, Target(device, lambda _: dtype, on_read))
    return model


def load_image_encoder(
    files: tuple[Path, ...], device: torch.device, dtype: torch.dtype, on_read: OnRead = ignore
) -> ImageEncoder:
    """The half of CLIP that sees, on `device` in `dtype`. Raises MODEL_INVALID."""
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
