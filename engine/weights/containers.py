"""Model files of every kind that people have, opened as checkpoints. Lives on the engine thread."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from engine.weights.checkpoint import Checkpoint
from engine.weights.gguf_file import open_gguf
from engine.weights.header import GGUF_START, LENGTH_BYTES, ZIP_START, invalid, is_header_length, open_file, said
from engine.weights.safetensors_file import open_safetensors
from engine.weights.shards import Index, find_parts
from engine.weights.torch_file import is_old_pickle, open_torch


def open_checkpoint(files: tuple[Path, ...]) -> Checkpoint:
    """The tensors of `files` as one checkpoint: one file, or shards, of which one or their index is enough.

    What a file is, its first bytes tell, whatever its name. Files stay mapped while the checkpoint or a tensor that
    was read from it lives: tensors that are used as they are stored outlive any block that this could be, so letting
    go of them is what lets go of the files. Raises MODEL_INVALID.
    """
    parts = find_parts(files)
    return _joined([_open(file) for file in parts.files], parts.indexes)


def _open(file: Path) -> Checkpoint:
    start = _first_bytes(file)
    if start.startswith(GGUF_START):
        return open_gguf(file)
    if start.startswith(ZIP_START):
        return open_torch(file)
    if is_old_pickle(start):
        raise invalid(file, "a pickle, which may run code; torch.save of version 1.6 or later makes a file without")
    if not is_header_length(start):
        raise invalid(file, "neither a safetensors file, nor GGUF, nor of torch.save")
    return open_safetensors(file)


def _first_bytes(file: Path) -> bytes:
    with open_file(file) as stream:
        try:
            return stream.read(LENGTH_BYTES)
        except OSError as error:
            raise invalid(file, said(error)) from error


def _joined(checkpoints: list[Checkpoint], indexes: tuple[Index, ...]) -> Checkpoint:
    """The tensors of all parts as one checkpoint; metadata that several have is that of the first.

    Raises MODEL_INVALID for a tensor that is in two parts, and for one that is not where an index has it.
    """
    owners: dict[str, Checkpoint] = {}
    for part in checkpoints:
        for name in part.header:
            if name in owners:
                raise invalid(part.files[0], f"{name}: also in {owners[name].files[0].name}")
            owners[name] = part
    for index in indexes:
        _check_index(index, owners)
    files = tuple(file for part in checkpoints for file in part.files)
    header = {name: part.header[name] for name, part in owners.items()}
    metadata = {name: text for part in reversed(checkpoints) for name, text in part.metadata.items()}

    def read(name: str) -> Tensor:
        return owners[name].read(name)

    return Checkpoint(files, header, metadata, read, {name: part.files[0] for name, part in owners.items()})


def _check_index(index: Index, owners: Mapping[str, Checkpoint]) -> None:
    for name, place in index.places.items():
        if name not in owners or owners[name].files[0].name != place:
            raise invalid(index.file, f"{name} is not in {place}")
