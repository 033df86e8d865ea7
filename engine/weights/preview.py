"""The preview decoder that may lie in a model's folder: recognised by its tensors, checked, loaded. Engine thread.

Files of TAEHV hold an encoder too, under ``encoder.``; nobody needs it here, so it may be there, whole or not. What
the decoder uses must fit exactly, but for one freedom that TAEHV's own loader grants: where a layer that grows frames
is stored for more frames than it makes, the last ones count.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import EngineError
from engine.models.preview_decoder import COLOURS, PreviewDecoder, PreviewDecoderConfig, TGrow
from engine.weights.containers import open_checkpoint
from engine.weights.finite import check_finite
from engine.weights.header import Header, TensorInfo, invalid
from engine.weights.place import OnTensor, ignore

# A tensor that this kind of decoder has and no other network: whether it is the larger, "super" one.
MARKS = {"decoder.3.conv.4.weight": False, "decoder.1.conv.3.weight": True}
OWN_NAME = "taew"  # a file called so is meant to be one of Wan's preview decoders
# The same tensors in the same shapes, made for the latents of other models: only the name tells.
NAMES_OF_OTHERS = ("taehv", "taecvx", "taeos")
SUFFIXES = (".safetensors", ".pth")
# Twice the largest decoder with its encoder in float32: what is larger, as other networks are, need not be opened.
LARGEST_FILE_BYTES = 256 << 20
LARGEST_SIZE = 1 << 14  # of any width; what a forged header claims must not reach torch
ENCODER = "encoder."
DTYPES = ("F16", "BF16", "F32", "F64")
NAMES_SHOWN = 5  # enough to see what is wrong with a file


@dataclass(frozen=True, slots=True)
class PreviewFile:
    """A file that can be loaded, and the sizes of the decoder in it."""

    path: Path
    config: PreviewDecoderConfig


def find_preview_decoder(folder: Path, latent_channels: int) -> PreviewFile | None:
    """The preview decoder for `latent_channels` in `folder` and its subfolders; None when there is none.

    Of several the larger one is taken, then the first by path. Those for other latents are passed over. Raises
    MODEL_INVALID for one that does not fit together, and for a file that is called like one but is none.
    """
    files = [file for path in _candidates(folder) if (file := _recognised(path, latent_channels)) is not None]
    return min(files, key=lambda file: not file.config.is_super, default=None)


def load_preview_decoder(
    file: PreviewFile, device: torch.device, dtype: torch.dtype, on_tensor: OnTensor = ignore
) -> PreviewDecoder:
    """The decoder in `dtype`; `on_tensor` is called before each tensor. Raises MODEL_INVALID."""
    with torch.device("meta"):
        model = PreviewDecoder(file.config)
    checkpoint = open_checkpoint((file.path,))
    _check(file.path, model, checkpoint.header)  # also here: the file may have changed since the job was accepted
    state: dict[str, Tensor] = {}
    for name, expected in model.state_dict().items():
        on_tensor()
        stored = checkpoint.read(name)[-len(expected) :]
        check_finite(name, stored, file.path)
        state[name] = _channels_last(stored.to(device, dtype, copy=True))
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _channels_last(tensor: Tensor) -> Tensor:
    """Kernels in the order in which convolutions work on frames as they are, without laying them out anew."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _candidates(folder: Path) -> list[Path]:
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
    known = [path for path in paths if not path.name.lower().startswith(NAMES_OF_OTHERS)]
    return [path for path in known if path.stat().st_size <= LARGEST_FILE_BYTES]


def _recognised(path: Path, latent_channels: int) -> PreviewFile | None:
    is_called_so = OWN_NAME in path.name.lower()
    try:
        header = open_checkpoint((path,)).header
    except EngineError:
        if is_called_so:
            raise
        return None  # whoever needs this file will say what is wrong with it
    kinds = [is_super for mark, is_super in MARKS.items() if mark in header]
    if not kinds and is_called_so:
        raise invalid(path, f"not a preview decoder: none of {', '.join(MARKS)}")
    if not kinds:
        return None
    config = _config(path, header, is_super=kinds[0])
    if config.latent_channels != latent_channels:
        return None
    with torch.device("meta"):
        _check(path, PreviewDecoder(config), header)
    return PreviewFile(path, config)


def _config(path: Path, header: Header, *, is_super: bool) -> PreviewDecoderConfig:
    """Sizes from the shapes of the stored tensors."""
    first = "decoder.0.weight" if is_super else "decoder.1.weight"
    rows = (first,) if is_super else (first, "decoder.8.weight", "decoder.14.weight", "decoder.20.weight")
    columns = tuple(f"decoder.{layer}.conv.weight" for layer in (7, 14, 21)) if is_super else ()
    try:
        widths = tuple(header[name].shape[0] for name in rows) + tuple(header[name].shape[1] for name in columns)
        patch_size = isqrt(header["decoder.22.weight"].shape[0] // COLOURS)
        latent_channels = header[first].shape[1]
    except KeyError as error:
        raise invalid(path, f"missing: {error.args[0]}") from error
    except IndexError as error:
        raise invalid(path, f"unexpected shapes: {error}") from error
    if not all(1 <= size <= LARGEST_SIZE for size in (*widths, patch_size, latent_channels)):
        raise invalid(path, f"unexpected shapes: widths {list(widths)}, patch {patch_size}")
    return PreviewDecoderConfig(latent_channels, patch_size, widths, is_super)


def _check(path: Path, model: PreviewDecoder, header: Header) -> None:
    """Refuse tensors that do not fit; raises MODEL_INVALID."""
    expected = model.state_dict()
    used = {name: info for name, info in header.items() if not name.startswith(ENCODER)}
    for index, layer in enumerate(model.decoder):
        name = f"decoder.{index}.conv.weight"
        if isinstance(layer, TGrow) and name in used:
            used[name] = _last_rows(used[name], len(expected[name]))
    faults = _mismatches(expected, used)
    faults += [f"{name} is {info.dtype}" for name, info in used.items() if info.dtype not in DTYPES][:1]
    if faults:
        raise invalid(path, "; ".join(faults))


def _last_rows(info: TensorInfo, rows: int) -> TensorInfo:
    stored, *others = info.shape or (0,)
    return TensorInfo(info.dtype, (min(stored, rows), *others), info.byte_count)


def _mismatches(expected: Mapping[str, Tensor], stored: Header) -> list[str]:
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
