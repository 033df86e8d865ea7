"""Which files may hold latents or models, told by their names before any is opened; pure, for the UI thread."""

from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from PySide6.QtCore import QMimeData

from engine.commands import COMMAND_FILE
from engine.weights.model_files import MODEL_ENDINGS

LATENT = ".latent"  # which ComfyUI gives to latents and to nothing else
SUFFIXES = (".safetensors", LATENT, ".pth", ".pt")


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


def is_model_place(path: Path) -> bool:
    """Whether `path` can only be a place of models: a folder, or a file by a name that no latents have."""
    ending = path.suffix.lower()
    return path.is_dir() or (ending in MODEL_ENDINGS and ending not in SUFFIXES)


def may_be_model(path: Path) -> bool:
    """Whether a file may be a model by its name, and is not known to be latents."""
    ending = path.suffix.lower()
    return ending in MODEL_ENDINGS and ending != LATENT and not knows_its_model(path)


def knows_its_model(latents: Path) -> bool:
    """Whether the job that made `latents` has left its command, with the model, beside them."""
    return latents.with_name(COMMAND_FILE).is_file()
