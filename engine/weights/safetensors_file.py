"""One safetensors file as a checkpoint. Lives on the engine thread."""

from pathlib import Path

import torch
from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.header import Contents, invalid, read_contents
from engine.weights.mapped_file import DTYPES, MappedFile

PACKED = "F4"  # torch has two of them in one element


def open_safetensors(file: Path) -> Checkpoint:
    """The tensors of a safetensors `file`. Raises MODEL_INVALID for one that is damaged or something else."""
    mapped = MappedFile(file)  # before the header is read, so that a change in between is seen
    contents = read_contents(file)

    def read(name: str) -> Tensor:
        return _read(file, mapped, contents, name)

    return Checkpoint((file,), contents.header, contents.metadata, read)


def _read(file: Path, mapped: MappedFile, contents: Contents, name: str) -> Tensor:
    info = contents.header[name]
    shape = info.shape
    if info.dtype == PACKED:
        if shape[-1] % 2:
            raise invalid(file, f"{name}: rows of {shape[-1]} values of 4 bits end within a byte")
        dtype, shape = torch.float4_e2m1fn_x2, (*shape[:-1], shape[-1] // 2)
    elif info.dtype in DTYPES:
        dtype = DTYPES[info.dtype]
    else:
        raise invalid(file, f"{name}: its dtype {info.dtype} cannot be computed with")
    return mapped.values(dtype, contents.starts[name], info.byte_count).view(shape)
