"""Checkpoints that are split into several files, with an index beside them or without: which belong together.

Torch-free; reads indexes and no tensors. Lives on the thread of its caller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from engine.weights.header import MAX_HEADER_BYTES, invalid, open_file, said
from engine.weights.strict_json import parse_object

INDEX_ENDING = ".index.json"
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<ending>\.\w+)")
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Index:
    """What an index file says: the name of the file that each tensor lies in."""

    file: Path
    places: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parts:
    """All files of one checkpoint, and the indexes that list their tensors."""

    files: tuple[Path, ...]
    indexes: tuple[Index, ...]


def find_parts(files: tuple[Path, ...]) -> Parts:
    """The files that belong together with `files`: of a shard or an index, all that lie beside it.

    Raises MODEL_INVALID for a damaged index and, naming them, for shards that are not there.
    """
    index_files = dict.fromkeys(index for file in files for index in _index_of(file))
    indexes = {file: _read_index(file) for file in index_files}
    parts: dict[Path, None] = {}
    for file in files:
        names = sorted(set(indexes[file].places.values())) if file in indexes else _shards_of(file)
        _check_there(file, names)
        parts |= dict.fromkeys(file.with_name(name) for name in names)
    return Parts(tuple(parts), tuple(indexes.values()))


def parts_of(file: Path) -> tuple[Path, ...]:
    """The file at `file`; of a shard or of an index, all shards in order. Raises MODEL_INVALID as `find_parts` does."""
    return find_parts((file,)).files


def _index_of(file: Path) -> tuple[Path, ...]:
    """`file` itself if it is an index; that of a shard, if there is one."""
    if file.name.endswith(INDEX_ENDING):
        return (file,)
    shard = SHARD.fullmatch(file.name)
    index = file.with_name(f"{shard['stem']}{shard['ending']}{INDEX_ENDING}") if shard else None
    return (index,) if index and index.is_file() else ()


def _shards_of(file: Path) -> list[str]:
    shard = SHARD.fullmatch(file.name)
    if shard is None:
        return [file.name]
    stem, count, ending = shard["stem"], int(shard["count"]), shard["ending"]
    if not 1 <= int(shard["number"]) <= count:
        raise invalid(file, f"by its name, part {int(shard['number'])} of {count}")
    return [f"{stem}-{number:05}-of-{count:05}{ending}" for number in range(1, count + 1)]


def _check_there(file: Path, names: list[str]) -> None:
    missing = [name for name in names if name != file.name and not file.with_name(name).exists()]
    if missing:
        more = f" and {len(missing) - NAMES_SHOWN} more" if len(missing) > NAMES_SHOWN else ""
        raise invalid(file, f"other files of the same checkpoint are missing: {', '.join(missing[:NAMES_SHOWN])}{more}")


def _read_index(file: Path) -> Index:
    with open_file(file) as stream:
        try:
            places = parse_object(stream.read(MAX_HEADER_BYTES)).get("weight_map")
        except (OSError, ValueError) as error:
            raise invalid(file, f"not an index of shards: {said(error)}") from error
    if not isinstance(places, dict) or not places:
        raise invalid(file, "not an index of shards: it has no weight_map")
    for name, place in places.items():
        if not isinstance(place, str) or not _is_file_name(place):
            raise invalid(file, f"{name}: its place {place!r} is not the name of a file beside the index")
    return Index(file, places)


def _is_file_name(text: str) -> bool:
    """Whether `text` stays in its folder, on every system."""
    is_plain = PurePosixPath(text).name == PureWindowsPath(text).name == text
    return is_plain and text not in ("", "..") and text.isprintable()
