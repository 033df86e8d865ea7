"""Checkpoints that are the whole of a network that is wanted: nothing missing, nothing over. Engine's thread."""

from dataclasses import dataclass
from pathlib import Path

from engine.weights.checkpoint import Checkpoint
from engine.weights.containers import open_checkpoint
from engine.weights.families import Role
from engine.weights.header import invalid
from engine.weights.identify import Description, identify
from engine.weights.inspect import inspect_files
from engine.weights.source import WeightSource

# Enough names to see what is wrong with a file; a file of another network would list a thousand.
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class OpenedNetwork:
    """A checkpoint whose tensors can be read, and which parameter each of them is."""

    checkpoint: Checkpoint
    description: Description

    def byte_count(self, source: WeightSource) -> int:
        """Stored bytes of one parameter."""
        pieces = source.pieces or (source,)
        names = (name for piece in pieces for name in (piece.name, *piece.parts.values()))
        return sum(self.checkpoint.header[name].byte_count for name in names)


def describe(files: tuple[Path, ...], role: Role) -> Description:
    """What the headers of `files` say of a whole network of that `role`. Raises MODEL_INVALID."""
    description = inspect_files(files).model
    _check_whole(description, role)
    return description


def open_network(files: tuple[Path, ...], role: Role) -> OpenedNetwork:
    """The whole network of that `role` in `files`; they stay mapped while it lives. Raises MODEL_INVALID."""
    checkpoint = open_checkpoint(files)

    def read(name: str) -> bytes:
        return bytes(checkpoint.read(name).contiguous().flatten().numpy().tobytes())

    description = identify(checkpoint.header, checkpoint.metadata, files[0], read)
    _check_whole(description, role)
    return OpenedNetwork(checkpoint, description)


def _check_whole(description: Description, role: Role) -> None:
    if description.role is not role:
        reason = f"it is a {description.role} ({description.family.name}), not a {role}"
        raise invalid(description.path, reason)
    kinds = {"missing": description.missing, "unexpected": description.unexpected}
    faults = [f"{kind}: {_some(names)}" for kind, names in kinds.items() if names]
    if faults:
        raise invalid(description.path, "; ".join(faults))


def _some(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
