"""Files of tensors that other programs wrote, safetensors or `torch.save`: what is in them, before any value is read.

Nothing in a file is ever executed, and no claim of a file is believed: both kinds are mapped, not loaded, and a tensor
cannot reach past the bytes that are there. Lives on the engine thread.
"""

import contextlib
import os
import pickle
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.device import free_host_bytes
from engine.errors import EngineError, ErrorCode
from engine.weights.header import LENGTH_BYTES, ZIP_START, said
from engine.weights.torch_file import check_archive, is_old_pickle

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
MEMORY_FACTOR = 4  # two bytes of a value in the file become four, and as many again while they are worked on


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a file; `dtype` None is one that latents never have. `read` gives its values."""

    shape: tuple[int, ...]
    dtype: torch.dtype | None
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class TensorFile:
    """The tensors of a file by name, a bare one under the empty name; `metadata` only safetensors have."""

    tensors: dict[str, StoredTensor]
    metadata: dict[str, str]
    is_safetensors: bool


def invalid(path: Path, reason: str) -> EngineError:
    """The failure LATENTS_INVALID of a file, for the caller to raise; `reason` goes on after the file's name."""
    return EngineError(ErrorCode.LATENTS_INVALID, file=str(path), reason=reason)


@contextlib.contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    """What is in `path`; its tensors can be read until the block ends.

    Raises LATENTS_INVALID for what is no such file, is damaged, or would have to run code to be opened.
    """
    start = _first_bytes(path)
    try:
        with contextlib.ExitStack() as stack:
            yield _saved_by_torch(path) if start.startswith(ZIP_START) else _safetensors(path, stack)
    except (SafetensorError, OSError) as error:
        reason = f"is damaged, or neither a safetensors file nor one of torch.save: {said(error)}"
        raise invalid(path, reason) from error


def _first_bytes(path: Path) -> bytes:
    try:
        _check_kind_and_size(path, path.stat())
        with path.open("rb") as file:
            start = file.read(LENGTH_BYTES)
    except (OSError, ValueError) as error:
        raise invalid(path, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    if is_old_pickle(start):
        raise invalid(path, "is a pickle, which may run code; save the tensor with torch.save of version 1.6 or later")
    return start


def _check_kind_and_size(path: Path, status: os.stat_result) -> None:
    free = free_host_bytes()
    if stat.S_ISDIR(status.st_mode):
        raise invalid(path, "is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise invalid(path, "is not a file")
    if not status.st_size:
        raise invalid(path, "is empty")
    if status.st_size * MEMORY_FACTOR > free:
        raise invalid(path, f"has {status.st_size >> 20} MiB, too many for {free >> 20} MiB of free memory")


def _safetensors(path: Path, stack: contextlib.ExitStack) -> TensorFile:
    try:
        file = stack.enter_context(safe_open(path, framework="pt"))
    except RuntimeError as error:  # torch's word for a file that cannot be mapped
        raise OSError(str(error)) from error
    return TensorFile(_mapped(file), file.metadata() or {}, is_safetensors=True)


def _mapped(file: safe_open) -> dict[str, StoredTensor]:
    return {name: _described(file, name) for name in file.keys()}  # noqa: SIM118 - the file object is no mapping


def _described(file: safe_open, name: str) -> StoredTensor:
    entry = file.get_slice(name)
    return StoredTensor(tuple(entry.get_shape()), DTYPES.get(entry.get_dtype()), lambda: file.get_tensor(name))


def _saved_by_torch(path: Path) -> TensorFile:
    if str(path).endswith(".safetensors"):  # which torch believes more than the content
        raise invalid(path, "is a file of torch.save; give it a name that ends in .pth")
    try:
        check_archive(path)
        # Mapped: a storage that claims more than the file's bytes is cut to them, and no tensor can be wider.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return TensorFile(_tensors_in(content), {}, is_safetensors=False)
    except pickle.UnpicklingError as error:
        reason = "holds more than tensors, which may run code, or is damaged; save the bare tensor with torch.save"
        raise invalid(path, reason) from error
    except Exception as error:  # a damaged pickle may make anything of the functions that rebuild tensors
        raise invalid(path, f"is damaged or was not written by torch.save: {said(error)}") from error


def _tensors_in(content: object) -> dict[str, StoredTensor]:
    if isinstance(content, Tensor):
        return {"": _loaded(content)}
    if isinstance(content, dict):
        return {str(name): _loaded(value) for name, value in content.items() if isinstance(value, Tensor)}
    raise TypeError(f"it holds a {type(content).__name__}, not a tensor or a dict of tensors")


def _loaded(tensor: Tensor) -> StoredTensor:
    is_plain = tensor.layout is torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    is_known = is_plain and tensor.dtype in DTYPES.values()
    return StoredTensor(tuple(tensor.shape), tensor.dtype if is_known else None, tensor.detach)
