"""A checkpoint as one set of tensors, whatever its container and number of files. Lives on the engine's thread."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from engine.weights.header import Header


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Stored tensors by their stored names.

    read: the tensor of a name in the header as it is stored, in host memory and mapped from its file, so that it must
    not be written to; quantised GGUF blocks come as uint8 [..., bytes of a row], F4 with two values in each element.
    Raises MODEL_INVALID when the file is damaged, has changed or is gone. A file stays mapped while the checkpoint or a
    tensor of it lives. metadata: strings of a safetensors header, scalar fields of a GGUF one. places: of
    several files, the one that each tensor lies in.
    """

    files: tuple[Path, ...]
    header: Header
    metadata: Mapping[str, str]
    read: Callable[[str], Tensor]
    places: Mapping[str, Path] = field(default_factory=dict)

    def file_of(self, name: str) -> Path:
        """The file that the tensor lies in."""
        return self.places.get(name, self.files[0])
