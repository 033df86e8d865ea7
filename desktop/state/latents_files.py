"""Which files may hold latents, told by their names before anything is opened; pure functions for the UI thread."""

from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from PySide6.QtCore import QMimeData

from engine.commands import COMMAND_FILE

SUFFIXES = (".safetensors", ".latent", ".pth", ".pt")


class LatentsRefusal(Enum):
    """Why files are not opened."""

    SEVERAL = auto()
    OTHER_KIND = auto()


def local_files(data: QMimeData) -> list[Path]:
    """The files that are dragged; none when something else is dragged, or is among them."""
    urls = data.urls()
    return [Path(url.toLocalFile()) for url in urls] if all(url.isLocalFile() for url in urls) else []


def refusal_of(files: Sequence[Path]) -> LatentsRefusal | None:
    """What speaks against opening `files`, at least one; None for one whose name is that of latents."""
    if len(files) > 1:
        return LatentsRefusal.SEVERAL
    return None if files[0].suffix.lower() in SUFFIXES else LatentsRefusal.OTHER_KIND


def knows_its_model(latents: Path) -> bool:
    """Whether the job that made `latents` has left its command, with the model, beside them."""
    return latents.with_name(COMMAND_FILE).is_file()
