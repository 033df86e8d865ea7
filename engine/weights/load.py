"""Networks with their weights: built without memory, then given the stored tensors under the very same names."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from engine.models.text_encoder import TextEncoder
from engine.models.tokenizer import Tokenizer
from engine.models.transformer import WanTransformer, keeps_float32
from engine.models.video_vae import VideoVae
from engine.weights.configs import read_headers, text_encoder_config, transformer_config, vae_config
from engine.weights.detect import ModelFiles
from engine.weights.header import Header, invalid

# Enough names to see what is wrong with a file; a file of another network would list a thousand.
NAMES_SHOWN = 5


def load_transformer(files: ModelFiles, device: torch.device, dtype: torch.dtype) -> WanTransformer:
    """The transformer, its products in `dtype` and its float32 islands in float32. Raises MODEL_INVALID."""
    config = transformer_config(files)
    with torch.device("meta"):
        model = WanTransformer(config)
    _give_weights(model, files.transformer, device, lambda name: torch.float32 if keeps_float32(name) else dtype)
    return model


def load_text_encoder(files: ModelFiles, device: torch.device, dtype: torch.dtype) -> TextEncoder:
    """The text encoder in `dtype`. Raises MODEL_INVALID."""
    config = text_encoder_config(files)
    with torch.device("meta"):
        model = TextEncoder(config)
    _give_weights(model, files.text_encoder, device, lambda _: dtype)
    return model


def load_vae(files: ModelFiles, device: torch.device, dtype: torch.dtype) -> VideoVae:
    """The VAE in `dtype`. Raises MODEL_INVALID."""
    config = vae_config(files)
    with torch.device("meta"):
        model = VideoVae(config)
    _give_weights(model, files.vae, device, lambda _: dtype)
    return model


def load_tokenizer(files: ModelFiles) -> Tokenizer:
    """The tokenizer. Raises MODEL_INVALID."""
    try:
        return Tokenizer(files.tokenizer)
    except (OSError, RuntimeError) as error:
        raise invalid(files.tokenizer, str(error)) from error


def _give_weights(
    model: nn.Module, files: tuple[Path, ...], device: torch.device, dtype_of: Callable[[str], torch.dtype]
) -> None:
    faults = mismatches(model.state_dict(), read_headers(files))
    if faults:
        raise invalid(files[0], "; ".join(faults))
    state: dict[str, Tensor] = {}
    for file in files:
        state |= _read_tensors(file, device, dtype_of)
    model.load_state_dict(state, strict=True, assign=True)
    model.eval().requires_grad_(False)


def _read_tensors(file: Path, device: torch.device, dtype_of: Callable[[str], torch.dtype]) -> dict[str, Tensor]:
    """The tensors of one file, converted one at a time; on the CPU those that need no conversion stay on disk."""
    try:
        with safe_open(file, framework="pt") as stored:
            return {name: stored.get_tensor(name).to(device, dtype_of(name)) for name in stored.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise invalid(file, str(error)) from error


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
