"""How far a job had come whose sampling is kept on disk: read from the head of the file, torch-free, on any thread."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import EngineError, ErrorCode
from engine.weights.header import Contents, read_contents

STATE_FORMAT = "tessera.sampling.1"
FORMAT_NAME = STATE_FORMAT.rpartition(".")[0]
LARGEST_STEPS = 1000


@dataclass(frozen=True, slots=True)
class KeptSteps:
    """`done` of `total` steps are on disk, at least one and not all."""

    done: int
    total: int


def unusable(file: Path, reason: str) -> EngineError:
    """The failure LATENTS_INVALID of a kept state, for the caller to raise; `reason` goes on after the file's name."""
    return EngineError(ErrorCode.LATENTS_INVALID, file=str(file), reason=reason)


def kept_steps(file: Path) -> KeptSteps:
    """What the state in `file` says of itself; its values are not read. Raises LATENTS_INVALID."""
    return steps_in(file, state_contents(file).metadata)


def state_contents(file: Path) -> Contents:
    """The head of a kept state. Raises LATENTS_INVALID for a file that is damaged, foreign or of a later version."""
    try:
        contents = read_contents(file)
    except EngineError as error:
        raise unusable(file, f"is damaged: {error.details['reason']}") from error
    said = contents.metadata.get("format", "")
    if said.rpartition(".")[0] != FORMAT_NAME:
        raise unusable(file, "is not what a job keeps of its sampling")
    if said != STATE_FORMAT:
        raise unusable(file, f"was kept by another version of this program ({said[:40]!r})")
    return contents


def steps_in(file: Path, metadata: Mapping[str, str]) -> KeptSteps:
    """The steps of the state in `file`, whose head says `metadata`. Raises LATENTS_INVALID."""
    try:
        kept = KeptSteps(int(metadata["step"]), int(metadata["steps"]))
    except (KeyError, ValueError) as error:
        raise unusable(file, f"is damaged: {type(error).__name__}: {error}") from error
    if not 0 < kept.done < kept.total <= LARGEST_STEPS:
        raise unusable(file, f"is damaged: step {kept.done} of {kept.total}")
    return kept
