"""Walks a folder for files that may belong to a model, one after the other, so that a search can be broken off.

Torch-free; nothing but names is read. Lives on the thread of its caller, which a network drive may keep waiting.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from engine.weights.shards import SHARD

MODEL_ENDINGS = (".safetensors", ".gguf", ".pth", ".pt", ".bin", ".latent")
SPIECE_FILE, JSON_FILE = "spiece.model", "tokenizer.json"
TOKENIZER_FILES = (SPIECE_FILE, JSON_FILE)


def is_checkpoint(file: Path) -> bool:
    """Whether the name of `file` is that of a checkpoint."""
    return file.suffix.lower() in MODEL_ENDINGS


def walk_models(place: Path) -> Iterator[Path]:
    """The checkpoints and tokenizers in `place` and below, of each split checkpoint the first file that is there.

    `place` may also be a single file. Folders are followed through links, each once. Raises OSError when `place` cannot
    be read; a folder below that cannot be is passed over.
    """
    if place.is_file():
        yield place
        return
    yield from _walk(place, set(), is_top=True)


def _walk(folder: Path, seen: set[Path], *, is_top: bool = False) -> Iterator[Path]:
    real = folder.resolve()
    if real in seen:
        return
    seen.add(real)
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        if is_top:
            raise
        return
    yield from first_files([folder / entry.name for entry in found if _is_file(entry)])
    for entry in found:
        if _is_folder(entry):
            yield from _walk(folder / entry.name, seen)


def first_files(files: list[Path]) -> Iterator[Path]:
    """Those of the sorted `files` of one folder that are checkpoints or tokenizers, without the further parts."""
    seen: set[str] = set()
    for file in files:
        shard = SHARD.fullmatch(file.name)
        checkpoint = f"{shard['stem']}-of-{shard['count']}{shard['ending']}" if shard else file.name
        if checkpoint not in seen and (is_checkpoint(file) or file.name in TOKENIZER_FILES):
            seen.add(checkpoint)
            yield file


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
