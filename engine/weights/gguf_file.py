"""GGUF files as checkpoints: tensors mapped from the file, blocks as the bytes they are. Lives on the engine thread."""

from pathlib import Path

import torch
from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.gguf_fields import shown
from engine.weights.gguf_header import GgufHeader, GgufTensor, read_gguf_header
from engine.weights.gguf_types import QUANTIZED_TYPES, TYPES_BY_NAME
from engine.weights.header import invalid
from engine.weights.mapped_file import DTYPES, MappedFile

PLAIN_TYPES = {name: DTYPES[name] for name in ("F32", "F16", "BF16", "F64", "I8", "I16", "I32", "I64")}


def open_gguf(file: Path) -> Checkpoint:
    """The tensors of a GGUF `file`; no value is read. Raises MODEL_INVALID as `read_gguf_header` does.

    Plain types are read in their own dtype and true shape, quantised ones as uint8 [..., bytes of a row]; reading one
    of any other type raises MODEL_INVALID.
    """
    mapped = MappedFile(file)  # before the header is read, so that a change in between is seen
    header = read_gguf_header(file)

    def read(name: str) -> Tensor:
        return _read(file, mapped, header, name)

    return Checkpoint((file,), header.infos, header.metadata, read)


def _read(file: Path, mapped: MappedFile, header: GgufHeader, name: str) -> Tensor:
    tensor = header.tensors.get(name)
    if tensor is None:
        raise invalid(file, f"{shown(name)} is not in it")
    kind, byte_count = tensor.info.dtype, tensor.info.byte_count
    if kind in PLAIN_TYPES:
        return mapped.values(PLAIN_TYPES[kind], tensor.start, byte_count).reshape(tensor.info.shape)
    if kind in QUANTIZED_TYPES:
        return mapped.values(torch.uint8, tensor.start, byte_count).reshape(_row_shape(tensor))
    raise invalid(file, f"{shown(name)} is stored as {kind}, which cannot be read")


def _row_shape(tensor: GgufTensor) -> tuple[int, ...]:
    """Shape in bytes of the stored rows of blocks."""
    stored = TYPES_BY_NAME[tensor.info.dtype]
    return *tensor.stored_shape[:-1], tensor.stored_shape[-1] // stored.values * stored.byte_count
