"""Picture files as RGB bytes; torch-free, safe on any thread."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from engine.errors import EngineError, ErrorCode

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")  # no others: some of them run programs
STILLS = tuple(kind for kind in FORMATS if kind != "GIF")
LARGEST_PIXELS = 89_478_485  # a quarter of a GiB in RGB; the library warns of files beyond it
WHITE = (255, 255, 255, 255)
WIDE_MODES = ("I", "F")
LARGEST_WORD = 65535


def read_picture(file: Path) -> np.ndarray:
    """The picture in `file`, the first of several, uint8 [H, W, 3]: red, green, blue, upright.

    What is transparent lies over white, as programs that show pictures have it. Colour profiles are not looked at, as
    in the official code. Raises PICTURE_INVALID.
    """
    try:
        return _read(file)
    except (EngineError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise picture_invalid(file, f"it is no whole picture of a kind that is known ({known})") from error
    except Exception as error:  # a damaged file makes the library raise whatever its reader stumbles over
        raise picture_invalid(file, str(error) or type(error).__name__) from error


def picture_invalid(file: Path, reason: str) -> EngineError:
    """What to raise about a picture or clip that cannot be used."""
    return EngineError(ErrorCode.PICTURE_INVALID, file=str(file), reason=reason)


def check_is_file(file: Path) -> None:
    """See that `file` is there and has an end, as pipes and devices might not. Raises PICTURE_INVALID."""
    if not file.exists():
        raise picture_invalid(file, "there is no such file")
    if not file.is_file():
        raise picture_invalid(file, "it is no file")


def is_still(file: Path) -> bool:
    """Whether `file` is a single picture that no program plays. A GIF always is a clip, maybe a short one."""
    try:
        with Image.open(file, formats=STILLS) as picture:
            return not getattr(picture, "is_animated", False)
    except Exception:  # a clip, or damaged
        return False


def _read(file: Path) -> np.ndarray:
    check_is_file(file)
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > LARGEST_PIXELS:
            reason = f"it has {width}x{height} pixels, more than {LARGEST_PIXELS / 1e6:.0f} million"
            raise picture_invalid(file, reason)
        picture.load()
        if picture.mode in WIDE_MODES:
            raise picture_invalid(file, "its values are 32-bit numbers, of which nobody knows what is white")
        return _rgb(ImageOps.exif_transpose(picture))


def _rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16"):
        words = np.asarray(picture).astype(np.uint32)  # [H, W], which the library would clip and not scale
        return np.repeat(((words * 255 + LARGEST_WORD // 2) // LARGEST_WORD).astype(np.uint8)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture)
    return np.array(picture.convert("RGB"), np.uint8)
