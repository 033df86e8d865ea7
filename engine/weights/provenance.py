"""What file and folder names say of a model that its tensors do not: the generation, and which of two experts. Pure."""

import re
from enum import StrEnum
from pathlib import Path

FOLDERS_UP = 2  # the model's own folder and the one it was downloaded into; what lies above is the person's
GENERATION_21 = re.compile(r"wan[-_ ]?2[._]?1")
GENERATION_22 = re.compile(r"wan[-_ ]?2[._]?2|a14b")
EXPERT = re.compile(r"(?<![a-z])(high|low)(?=[-_ ]?noise|[^a-z]|$)")
SECOND_EXPERT = "transformer_2"  # the folder of diffusers for the expert that ends the work


class Expert(StrEnum):
    """Which steps of the way a transformer of two is for: those with much noise left, or those with little."""

    HIGH_NOISE = "high_noise"
    LOW_NOISE = "low_noise"


def is_generation_22(path: Path) -> bool | None:
    """Whether the name nearest to the file that says a generation says 2.2; None when none does."""
    for name in _names(path):
        if GENERATION_22.search(name):
            return True
        if GENERATION_21.search(name):
            return False
    return None if expert_in(path) is None else True


def expert_in(path: Path) -> Expert | None:
    """The expert that file or folder names say; None when they say none."""
    for name in _names(path):
        if name == SECOND_EXPERT:
            return Expert.LOW_NOISE
        if found := EXPERT.search(name):
            return Expert(f"{found[1]}_noise")
    has_second = path.parent.name == "transformer" and (path.parent.parent / SECOND_EXPERT).is_dir()
    return Expert.HIGH_NOISE if has_second else None


def _names(path: Path) -> list[str]:
    """The file's name and those of the folders it lies in, nearest first."""
    return [name.lower() for name in (path.name, *(folder.name for folder in path.parents[:FOLDERS_UP]))]
