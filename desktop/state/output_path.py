"""Where a new video goes: a readable name in the person's video folder that no file has yet."""

import re
from itertools import count
from pathlib import Path

LONGEST_NAME = 60
LONGEST_NAME_BYTES = 120  # a file system counts bytes, of which a letter may take four


def new_video_path(folder: Path, prompt: str, seed: int) -> Path:
    """`folder/PROMPT-SEED.mp4` with only the characters that every file system takes, numbered when taken."""
    return _free_path(folder, prompt, str(seed))


def decoded_video_path(folder: Path, latents: Path) -> Path:
    """`folder/NAME-decoded.mp4` after the name of the `latents` file, by the rules of `new_video_path`."""
    return _free_path(folder, latents.stem, "decoded")


def _free_path(folder: Path, words: str, ending: str) -> Path:
    # The ending also keeps a name from being one that Windows reserves for a device.
    words = re.sub(r"[^\w]+", "-", words.lower()).strip("-_")
    stem = f"{_cut(words).strip('-_') or 'video'}-{ending}"
    names = (f"{stem}.mp4" if number == 1 else f"{stem}-{number}.mp4" for number in count(1))
    return next(path for path in map(folder.joinpath, names) if not path.exists())


def _cut(words: str) -> str:
    return words[:LONGEST_NAME].encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
