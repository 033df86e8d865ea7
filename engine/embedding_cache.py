"""Encoded texts and pictures on the disk, so that encoders need not be loaded for what they encoded before.

A cache is never needed: what cannot be read is encoded anew, and what cannot be written is not kept. Lives on the
engine's thread; several processes may share a folder.

L tokens, C channels of a token.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engine.output.durable import make_folders, write_durably

FORMAT = "tessera-embedding-1"  # another one when what encoders make of the same input changes
ENDING, LEFT_OVER = ".safetensors", ".tmp"
ROWS, DIGEST = "rows", "sha256"
LIMIT_BYTES = 256 << 20  # some sixty long prompts of umT5-xxl in bfloat16
LEFT_OVER_SECONDS = 3600  # after which a half-written file has nobody left who writes it


def text_key(
    encoder: Sequence[Path], tokenizer: Path, prompt: str, text_len: int, dtype: torch.dtype, form: str = ""
) -> str:
    """What names the rows of `prompt`; another one when a file of the encoder or the tokenizer has changed.

    form: whatever else of how the encoder is run matters to its rows. Raises OSError when a file is gone.
    """
    return _key("text", (*encoder, tokenizer), prompt, text_len, str(dtype), form)


def image_key(encoder: Sequence[Path], picture: Tensor, dtype: torch.dtype) -> str:
    """What names the rows of `picture`, as it is given to the encoder. Raises OSError when a file is gone."""
    return _key("image", encoder, _digest(picture), list(picture.shape), str(picture.dtype), str(dtype))


@dataclass(frozen=True, slots=True)
class EmbeddingCache:
    """Rows by key in `folder`, which is made when it is needed; beyond `limit_bytes` what was used longest ago goes."""

    folder: Path
    limit_bytes: int = LIMIT_BYTES

    def get(self, key: str) -> Tensor | None:
        """The rows [L, C] that were put under `key`, in host memory; None where there are none, or damaged ones."""
        path = self._path(key)
        try:
            if not path.is_file() or path.stat().st_size > self.limit_bytes:
                return None
            rows = _read(path, key)
        except (SafetensorError, OSError, RuntimeError, ValueError, TypeError):  # whatever a damaged header makes
            return None
        if rows is not None:
            with contextlib.suppress(OSError):
                path.touch()
        return rows

    def put(self, key: str, rows: Tensor) -> None:
        """Keep `rows` [L, C], without padding; a disk that is full or not writable keeps what it has."""
        kept = rows.detach().cpu().contiguous()
        content = save({ROWS: kept}, {"format": FORMAT, "key": key, DIGEST: _digest(kept)})
        if len(content) > self.limit_bytes:
            return
        with contextlib.suppress(OSError):
            make_folders(self.folder)
            self._trim(self.limit_bytes - len(content), key)
            write_durably(self._path(key), lambda file: file.write(content))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{ENDING}"

    def _trim(self, limit_bytes: int, key: str) -> None:
        """Remove what was used longest ago, until the entries but that of `key` take at most `limit_bytes`."""
        entries = sorted(self._entries(), reverse=True)
        total = 0
        for _, size, path in entries:
            total += size if path != self._path(key) else 0
            if total > limit_bytes and path != self._path(key):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, size and path of the entries; left-overs of killed processes are removed on the way."""
        for path in self.folder.iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                if path.name.endswith(f"{ENDING}{LEFT_OVER}") and time.time() - status.st_mtime > LEFT_OVER_SECONDS:
                    path.unlink()
                elif path.suffix == ENDING:
                    yield status.st_mtime, status.st_size, path


def _read(path: Path, key: str) -> Tensor | None:
    with safe_open(path, framework="pt") as file:
        stated = file.metadata() or {}
        if stated.get("format") != FORMAT or stated.get("key") != key or [*file.keys()] != [ROWS]:
            return None
        rows: Tensor = file.get_tensor(ROWS).clone()  # which outlives the file
    is_whole = rows.ndim == 2 and rows.is_floating_point() and _digest(rows) == stated.get(DIGEST)
    return rows if is_whole else None


def _digest(tensor: Tensor) -> str:
    """SHA-256 of the values as they lie in memory."""
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


def _key(kind: str, files: Iterable[Path], *rest: object) -> str:
    said = json.dumps([FORMAT, kind, [_identity(file) for file in files], *rest])
    return hashlib.sha256(said.encode()).hexdigest()


def _identity(file: Path) -> tuple[str, int, int]:
    """Which file it is, and in which state; reading all of it would take as long as encoding."""
    status = file.stat()
    return str(file.resolve()), status.st_size, status.st_mtime_ns
