"""The headers of model files of every kind, for programs that need no values: safetensors and GGUF without torch.

Files of `torch.save` are the exception, since only torch can follow them. Lives on the thread of its caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.weights.declared import ReadBytes
from engine.weights.gguf_header import read_gguf_header
from engine.weights.header import (
    GGUF_START,
    LENGTH_BYTES,
    ZIP_START,
    Contents,
    Header,
    invalid,
    open_file,
    read_contents,
    said,
)

# A tensor, or an array of GGUF's metadata, that is a tokenizer.
TOKENIZERS = ("spiece_model", "tokenizer.ggml.tokens")


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """All tensors of a checkpoint of one or several `files`; `read` gives the bytes of one of them."""

    files: tuple[Path, ...]
    header: Header
    metadata: Mapping[str, str]
    read: ReadBytes
    has_tokenizer: bool


def read_stored_header(files: tuple[Path, ...]) -> StoredHeader:
    """What the headers of all `files` of one checkpoint say together.

    Raises MODEL_INVALID for a damaged file and for a tensor that is in two of them.
    """
    parts = [_read(file) for file in files]
    owners: dict[str, StoredHeader] = {}
    for part in parts:
        for name in part.header:
            if name in owners:
                raise invalid(part.files[0], f"{name}: also in {owners[name].files[0].name}")
            owners[name] = part
    return StoredHeader(
        files=files,
        header={name: part.header[name] for name, part in owners.items()},
        metadata={name: text for part in reversed(parts) for name, text in part.metadata.items()},
        read=lambda name: owners[name].read(name),
        has_tokenizer=any(part.has_tokenizer for part in parts),
    )


def _read(file: Path) -> StoredHeader:
    with open_file(file) as stream:
        try:
            start = stream.read(LENGTH_BYTES)
        except OSError as error:
            raise invalid(file, said(error)) from error
    if start.startswith(GGUF_START):
        return _gguf(file)
    return _saved_by_torch(file) if start.startswith(ZIP_START) else _safetensors(file)


def _gguf(file: Path) -> StoredHeader:
    header = read_gguf_header(file)

    def read(name: str) -> bytes:
        tensor = header.tensors[name]
        return _bytes_at(file, tensor.start, tensor.info.byte_count)

    has_tokenizer = any(name in header.arrays for name in TOKENIZERS)
    return StoredHeader((file,), header.infos, header.metadata, read, has_tokenizer)


def _safetensors(file: Path) -> StoredHeader:
    contents: Contents = read_contents(file)

    def read(name: str) -> bytes:
        return _bytes_at(file, contents.starts[name], contents.header[name].byte_count)

    has_tokenizer = any(name in contents.header for name in TOKENIZERS)
    return StoredHeader((file,), contents.header, contents.metadata, read, has_tokenizer)


def _saved_by_torch(file: Path) -> StoredHeader:
    from engine.weights.torch_file import open_torch  # loads torch, which takes seconds

    checkpoint = open_torch(file)

    def read(name: str) -> bytes:
        return bytes(checkpoint.read(name).contiguous().view(-1).numpy().tobytes())

    return StoredHeader((file,), checkpoint.header, checkpoint.metadata, read, has_tokenizer=False)


def _bytes_at(file: Path, start: int, count: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            found = stream.read(count)
    except OSError as error:
        raise invalid(file, said(error)) from error
    if len(found) < count:
        raise invalid(file, f"cut short: {len(found)} of {count} bytes at {start}")
    return found
