"""Model files of every kind that people have, opened as checkpoints. Lives on the engine thread."""

from pathlib import Path

from engine.weights.checkpoint import Checkpoint
from engine.weights.gguf_file import open_gguf
from engine.weights.header import LENGTH_BYTES, invalid, is_header_length, open_file, said
from engine.weights.safetensors_file import open_safetensors
from engine.weights.shards import find_parts, join
from engine.weights.torch_file import ZIP_START, is_old_pickle, open_torch

GGUF_START = b"GGUF"


def open_checkpoint(files: tuple[Path, ...]) -> Checkpoint:
    """The tensors of `files` as one checkpoint: one file, or shards, of which one or their index is enough.

    What a file is, its first bytes tell, whatever its name. Files stay mapped while the checkpoint or a tensor that
    was read from it lives: tensors that are used as they are stored outlive any block that this could be, so letting
    go of them is what lets go of the files. Raises MODEL_INVALID.
    """
    parts = find_parts(files)
    return join([_open(file) for file in parts.files], parts.indexes)


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
