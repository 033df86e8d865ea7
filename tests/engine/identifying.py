"""Identifying tensors that only a header describes; shared by the tests of identification."""

from pathlib import Path

from engine.weights.identify import Description, identify
from tests.engine.manifests import Tensors, header_of, shapes

SILENT = Path("model.safetensors")  # a name that says nothing


def identified(
    tensors: Tensors,
    metadata: dict[str, str] | None = None,
    path: Path = SILENT,
    contents: dict[str, bytes] | None = None,
) -> Description:
    return identify(header_of(tensors), metadata or {}, path, (contents or {}).__getitem__)


def is_complete(found: Description) -> bool:
    return not found.missing and not found.unexpected


def small(manifest: str, blocks: int = 2) -> dict[str, tuple[int, ...]]:
    """The tensors of a manifest without all but its first blocks."""
    tensors = shapes(manifest)
    return {n: s for n, s in tensors.items() if not n.startswith("blocks.") or int(n.split(".")[1]) < blocks}
