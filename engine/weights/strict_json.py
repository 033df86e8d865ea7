"""JSON inside model files, which other programs wrote: taken whole and unambiguous or refused. Torch-free and pure."""

import json
from typing import Any


def parse_object(text: bytes) -> dict[str, Any]:
    """The object that `text` is. Raises ValueError, also for a name that comes twice and for what is not UTF-8."""
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        check_text(name)
        if name in found:
            raise ValueError(f"twice: {name[:200]}")
        found[name] = value
    return found


def check_text(text: str) -> None:
    r"""Raises ValueError for halves of characters ("\ud800"), which JSON can say and no file or screen can take."""
    text.encode("utf-8")
