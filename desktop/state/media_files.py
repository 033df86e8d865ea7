"""Which files are pictures and clips, told by their names before any is opened; pure, for the UI thread."""

from collections.abc import Sequence
from pathlib import Path

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
CLIPS = (".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi", ".gif")


def is_picture(path: Path) -> bool:
    """Whether `path` is called like a picture."""
    return path.suffix.lower() in PICTURES


def is_clip(path: Path) -> bool:
    """Whether `path` is called like a clip."""
    return path.suffix.lower() in CLIPS


def is_media(files: Sequence[Path]) -> bool:
    """Whether `files` are one picture or one clip."""
    return len(files) == 1 and (is_picture(files[0]) or is_clip(files[0]))
