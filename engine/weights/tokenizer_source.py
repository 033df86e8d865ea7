"""A model's tokenizer out of whichever file it comes in, as a serialized SentencePiece model. No torch.

Official and diffusers folders have it as a file of its own; umT5 files for ComfyUI hold those very bytes as a tensor,
GGUF ones the vocabulary. Lives on the thread of its caller.
"""

from collections.abc import Iterator
from pathlib import Path

from engine.models.sentencepiece_model import serialized_model
from engine.weights.gguf_tokenizer import read_tokenizer
from engine.weights.header import (
    GGUF_START,
    LENGTH_BYTES,
    MAX_HEADER_BYTES,
    ZIP_START,
    invalid,
    is_header_length,
    open_file,
    said,
)
from engine.weights.shards import INDEX_ENDING, parts_of
from engine.weights.stored_header import read_stored_header
from engine.weights.tokenizer_json import parse_tokenizer

EMBEDDED = "spiece_model"  # the tensor
LARGEST_BYTES = MAX_HEADER_BYTES  # of a tokenizer; the largest in use takes 17 MB
# Files of a folder, what was trained before what was made of it.
FILES = ("spiece.model", "*.model", "tokenizer.json")
CHECKPOINTS = ("*.safetensors", "*.gguf")


def read_sentencepiece(path: Path) -> bytes:
    """The SentencePiece model of `path`: a file of one, a `tokenizer.json`, a text encoder that has one inside.

    Of a folder, that of the file in it; its subfolders are not searched, since they may be those of other models. What
    a file is, its first bytes tell, whatever its name. Raises MODEL_INVALID for a file without a tokenizer or with a
    damaged one; whether a SentencePiece model is whole, the library finds that loads it.
    """
    file = _file_in(path) if path.is_dir() else path
    start = _read(file, LENGTH_BYTES)
    if file.name.endswith(INDEX_ENDING) or is_header_length(start):
        return _embedded(file)
    if start.startswith(GGUF_START):
        return _of_vocabulary(file)
    if start.startswith(ZIP_START):
        raise invalid(file, "it has no tokenizer")
    content = _read(file, LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise invalid(file, f"a tokenizer of more than {LARGEST_BYTES} bytes")
    return _of_json(file, content) if start.lstrip().startswith(b"{") else content


def _embedded(file: Path) -> bytes:
    stored = read_stored_header(parts_of(file))
    info = stored.header.get(EMBEDDED)
    if info is None:
        raise invalid(file, f"it has no tokenizer: no tensor {EMBEDDED}")
    if info.dtype != "U8" or not 0 < info.byte_count <= LARGEST_BYTES:
        raise invalid(file, f"its tokenizer is {info.byte_count} bytes of {info.dtype}")
    return stored.read(EMBEDDED)


def _of_vocabulary(file: Path) -> bytes:
    try:
        return serialized_model(read_tokenizer(file))
    except ValueError as error:
        raise invalid(file, said(error)) from error


def _of_json(file: Path, content: bytes) -> bytes:
    try:
        return serialized_model(parse_tokenizer(content))
    except ValueError as error:
        raise invalid(file, said(error)) from error


def _file_in(folder: Path) -> Path:
    """The file of `folder` that has the tokenizer. Raises MODEL_INVALID for none, and for several of one kind."""
    for files in _kinds_of_files(folder):
        if len(files) > 1:
            raise invalid(files[1], f"a tokenizer like {files[0].name}; one is needed")
        if files:
            return files[0]
    raise invalid(folder, f"no tokenizer in it: none of {', '.join(FILES)}, nor a text encoder that has one inside")


def _kinds_of_files(folder: Path) -> Iterator[list[Path]]:
    for pattern in FILES:
        yield _matching(folder, pattern)
    for pattern in CHECKPOINTS:
        yield [file for file in _matching(folder, pattern) if read_stored_header((file,)).has_tokenizer]


def _matching(folder: Path, pattern: str) -> list[Path]:
    return sorted(file for file in folder.glob(pattern) if file.is_file())


def _read(file: Path, byte_count: int) -> bytes:
    with open_file(file) as stream:
        try:
            return stream.read(byte_count)
        except OSError as error:
            raise invalid(file, said(error)) from error
