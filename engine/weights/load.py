"""Networks with their weights: built without memory, then given the stored tensors under the very same names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from engine.models.text_encoder import TextEncoder
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import WanTransformer, keeps_float32
from engine.models.video_vae import VideoVae
from engine.models.video_vae22 import vae_of
from engine.weights.configs import read_headers, text_encoder_config, transformer_config, vae_config
from engine.weights.detect import ModelFiles
from engine.weights.header import Header, invalid

# Enough names to see what is wrong with a file; a file of another network would list a thousand.
NAMES_SHOWN = 5

OnTensor = Callable[[], None]


def ignore() -> None:
    """For callers that do not want to stop in the middle."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the tensors of a file go, in which dtype each, and what is called before each."""

    device: torch.device
    dtype_of: Callable[[str], torch.dtype]
    on_tensor: OnTensor


def check_weights(files: ModelFiles) -> None:
    """See from the headers alone that all networks can be loaded and fit together. Raises MODEL_INVALID."""
    transformer, encoder = _empty_transformer(files), _empty_text_encoder(files)
    _check_names(transformer, files.transformer)
    _check_names(encoder, files.text_encoder)
    check_vae_weights(files)
    if encoder.config.dim != transformer.config.text_dim:
        reason = f"it makes {encoder.config.dim} channels, the transformer takes {transformer.config.text_dim}"
        raise invalid(files.text_encoder[0], reason)
    pieces = load_tokenizer(files).size
    if pieces > encoder.config.vocab_size:
        raise invalid(files.tokenizer, f"it has {pieces} pieces, the text encoder knows {encoder.config.vocab_size}")


def check_vae_weights(files: ModelFiles) -> None:
    """See from the headers alone that the VAE can be loaded. Raises MODEL_INVALID."""
    _check_names(_empty_vae(files), files.vae)


def load_transformer(
    files: ModelFiles, device: torch.device, dtype: torch.dtype, on_tensor: OnTensor = ignore
) -> WanTransformer:
    """The transformer, its products in `dtype` and its float32 islands in float32. Raises MODEL_INVALID.

    Here and below `on_tensor` is called before each tensor; what it raises leaves the call.
    """
    model = _empty_transformer(files)
    target = Target(device, lambda name: torch.float32 if keeps_float32(name) else dtype, on_tensor)
    _give_weights(model, files.transformer, target)
    return model


def load_text_encoder(
    files: ModelFiles, device: torch.device, dtype: torch.dtype, on_tensor: OnTensor = ignore
) -> TextEncoder:
    """The text encoder in `dtype`. Raises MODEL_INVALID."""
    model = _empty_text_encoder(files)
    _give_weights(model, files.text_encoder, Target(device, lambda _: dtype, on_tensor))
    return model


def load_vae(files: ModelFiles, device: torch.device, dtype: torch.dtype, on_tensor: OnTensor = ignore) -> VideoVae:
    """The VAE of either kind in `dtype`. Raises MODEL_INVALID."""
    model = _empty_vae(files)
    _give_weights(model, files.vae, Target(device, lambda _: dtype, on_tensor))
    return model


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer. Raises MODEL_INVALID."""
    try:
        return Tokenizer(files.tokenizer)
    except (OSError, RuntimeError) as error:
        raise invalid(files.tokenizer, str(error)) from error


def _empty_transformer(files: ModelFiles) -> WanTransformer:
    with torch.device("meta"):
        return WanTransformer(transformer_config(files))


def _empty_text_encoder(files: ModelFiles) -> TextEncoder:
    with torch.device("meta"):
        return TextEncoder(text_encoder_config(files))


def _empty_vae(files: ModelFiles) -> VideoVae:
    with torch.device("meta"):
        return vae_of(vae_config(files))


def _check_names(model: nn.Module, files: tuple[Path, ...]) -> None:
    faults = mismatches(model.state_dict(), read_headers(files))
    if faults:
        raise invalid(files[0], "; ".join(faults))


def _give_weights(model: nn.Module, files: tuple[Path, ...], target: Target) -> None:
    _check_names(model, files)  # also here: a file may have changed since the job was accepted
    state: dict[str, Tensor] = {}
    for file in files:
        state |= _read_tensors(file, target)
    model.load_state_dict(state, strict=True, assign=True)
    model.eval().requires_grad_(False)


def _read_tensors(file: Path, target: Target) -> dict[str, Tensor]:
    """The tensors of one file, converted one at a time; on the CPU those that need no conversion stay on disk."""
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 - the file object is no mapping
                target.on_tensor()
                tensors[name] = stored.get_tensor(name).to(target.device, target.dtype_of(name))
    except (SafetensorError, OSError) as error:
        raise invalid(file, str(error)) from error
    return tensors


def mismatches(expected: dict[str, Tensor], stored: Header) -> list[str]:
    """What keeps the `stored` tensors from being the `expected` ones, in words; empty when nothing does."""
    missing = [name for name in expected if name not in stored]
    unexpected = [name for name in stored if name not in expected]
    reshaped = [
        f"{name} {list(stored[name].shape)} instead of {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in stored and stored[name].shape != tuple(tensor.shape)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "wrong shape": reshaped}
    return [f"{kind}: {_some(names)}" for kind, names in kinds.items() if names]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
