"""The state of sampling between two steps as a file: written whole or not at all, read back bit for bit. Engine thread.

A safetensors file whose metadata say how its tensors go together, what job they belong to, and their checksum.
"""

import dataclasses
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from engine.commands import GenerateVideo
from engine.output.durable import disk_errors, write_durably
from engine.output.kept_steps import STATE_FORMAT, state_contents, steps_in, unusable
from engine.sampling.solvers import Past
from engine.sampling.step_cache import KeptPass
from engine.sampling.tensor_tree import kinds_of, put_together, take_apart
from engine.weights.header import LENGTH_BYTES, METADATA, Contents, TensorInfo, said
from engine.weights.mapped_file import DTYPES

NAMES = {dtype: name for name, dtype in DTYPES.items()}
KINDS = kinds_of(Past, KeptPass)
# What changes where and how it is computed, and of the result at most the rounding, or what is done afterwards.
OTHER_SETTINGS = frozenset({"output", "fps", "decode", "budget_bytes", "resident_blocks", "chunk_tokens"})


@dataclass(frozen=True, slots=True)
class SamplingState:
    """All that the steps to come need of those behind: `step` of `steps` are done, 0 < step < steps.

    x: latents [1, z, T, h, w], float32, any device. past: of the solver. cache: what the step cache has kept.
    fingerprint: of the job, as `fingerprint` makes it. Nothing in it is written to once it is made.
    """

    step: int
    steps: int
    x: Tensor
    past: Past
    fingerprint: str
    cache: tuple[KeptPass, ...] = ()

    def to(self, device: torch.device) -> "SamplingState":
        """The same with all its tensors on `device`."""
        plan, tensors = take_apart((self.x, self.past, self.cache), KINDS)
        x, past, cache = put_together(plan, [tensor.to(device) for tensor in tensors], KINDS)
        return dataclasses.replace(self, x=x, past=past, cache=cache)


def fingerprint(command: GenerateVideo, files: Iterable[Path]) -> str:
    """What makes the result of `command` what it is: its settings, and size and time of `files` and of those it names.

    files: those of the model. Settings that are as this version has them by default are left out, so that a later
    one, which has more of them, gets the same. Raises OSError for a file that is not there.
    """
    given, loras = command.given, [use.path for use in command.loras]
    named = [path for path in (given.first, given.last, given.extend, given.restyle, *loras) if path is not None]
    stamps = [(str(path), *_stamp(path)) for path in (*files, *named)]
    content = json.dumps([_stated(command), sorted(stamps)], sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _stated(value: Any) -> Any:  # noqa: ANN401 - JSON has no other type
    """The fields of `value` that are not as they are by default, and matter."""
    if isinstance(value, tuple):
        return [_stated(each) for each in value]
    if not dataclasses.is_dataclass(value):
        return value
    fields = [field for field in dataclasses.fields(value) if field.name not in OTHER_SETTINGS]
    stated = {field.name: _stated(getattr(value, field.name)) for field in fields}
    return {field.name: stated[field.name] for field in fields if stated[field.name] != _stated(_default(field))}


def _default(field: "dataclasses.Field[Any]") -> object:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


def write_state(file: Path, state: SamplingState) -> None:
    """Put `state` in the place of what is in `file`. Raises OUTPUT_NOT_WRITABLE; then what was there still is."""
    plan, tensors = take_apart((state.x, state.past, state.cache), KINDS)
    values = [tensor.detach().cpu().contiguous() for tensor in tensors]
    entries = _entries(values)
    metadata = {
        "format": STATE_FORMAT,
        "step": str(state.step),
        "steps": str(state.steps),
        "fingerprint": state.fingerprint,
        "plan": json.dumps(plan),
    }
    metadata["checksum"] = _checksum(metadata, entries, map(_bytes, values))
    head = json.dumps({METADATA: metadata, **entries}).encode()
    with disk_errors(file):
        write_durably(file, _writing(head, values))


def _writing(head: bytes, values: list[Tensor]) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        file.write(len(head).to_bytes(LENGTH_BYTES, "little") + head)
        for value in values:
            file.write(_bytes(value))

    return write


def _entries(values: list[Tensor]) -> dict[str, Any]:
    entries, end = {}, 0
    for number, value in enumerate(values):
        start, end = end, end + value.numel() * value.itemsize
        described = {"dtype": NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
        entries[str(number)] = described
    return entries


def _bytes(value: Tensor) -> memoryview:
    """The bytes of a contiguous tensor in host memory, of whatever dtype."""
    return value.reshape(-1).view(torch.uint8).numpy().data


def _checksum(metadata: Mapping[str, str], entries: Mapping[str, Any], values: Iterable[memoryview]) -> str:
    """Of all that a file says and holds, but for the checksum itself."""
    said = {name: text for name, text in metadata.items() if name != "checksum"}
    found = zlib.crc32(json.dumps([said, entries], sort_keys=True).encode())
    for value in values:
        found = zlib.crc32(value, found)
    return f"{found:08x}"


def read_state(file: Path, expected: str) -> SamplingState:
    """The state in `file`, in host memory, of the job with the fingerprint `expected`.

    Raises LATENTS_INVALID for a file that is damaged in any bit, foreign, of another version or of another job.
    """
    contents = state_contents(file)
    metadata, kept = contents.metadata, steps_in(file, contents.metadata)
    values = _values(file, contents)
    if metadata.get("checksum") != _checksum(metadata, _entries(values), map(_bytes, values)):
        raise unusable(file, "is damaged: its checksum is another")
    if metadata.get("fingerprint") != expected:
        changed = "files of the model, pictures or clips that have changed since"
        raise unusable(file, f"was sampled with other settings, or with {changed}")
    try:
        x, past, cache = put_together(json.loads(metadata["plan"]), values, KINDS)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unusable(file, f"does not hold what this version keeps: {said(error)}") from error
    return SamplingState(kept.done, kept.total, x, past, expected, cache)


def _values(file: Path, contents: Contents) -> list[Tensor]:
    """The tensors by their places, in memory of their own: a file that is mapped cannot be replaced on Windows."""
    names = sorted(contents.header, key=lambda name: contents.starts[name])
    if unknown := {contents.header[name].dtype for name in names} - DTYPES.keys():
        raise unusable(file, f"is damaged: it holds {', '.join(sorted(unknown))}")
    try:
        with file.open("rb") as stream:
            stream.seek(min(contents.starts.values(), default=0))
            return [_value(stream, contents.header[name]) for name in names]
    except (OSError, EOFError) as error:
        raise unusable(file, f"cannot be read: {said(error)}") from error


def _value(stream: BinaryIO, info: TensorInfo) -> Tensor:
    value = torch.empty(info.byte_count, dtype=torch.uint8)
    if stream.readinto(value.numpy().data) != info.byte_count:  # type: ignore[attr-defined]
        raise EOFError("it is cut short")
    return value.view(DTYPES[info.dtype]).reshape(info.shape)
