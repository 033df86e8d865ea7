"""What an MP4 says about itself: the job as one JSON object in the standard `comment` tag.

The seconds and the peak of the encoding are not in it: they are known only when the file that would hold them has
been written.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from engine.commands import Command, to_json
from engine.events import SamplingFigures, Stage

HEADER = ";FFMETADATA1\n"
SPECIAL = "\\=;#\n"


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What a job was, was to take and took, by stage, for the stages before encoding.

    predicted_peak_bytes is what was promised, budget_bytes what the stage was held to, peak_bytes what was measured.
    sampling: how sampling was cut, of a job that sampled.
    origin: for decoded latents, the command that had made them, if that is known.
    """

    command: Command
    origin: Command | None
    models: dict[str, str]
    seconds: dict[Stage, float]
    predicted_peak_bytes: dict[Stage, int]
    budget_bytes: dict[Stage, int]
    peak_bytes: dict[Stage, int]
    sampling: SamplingFigures | None = None

    def as_json(self) -> str:
        """The record as one JSON object."""
        record: dict[str, Any] = {"program": "Tessera", "command": json.loads(to_json(self.command))}
        if self.origin is not None:
            record["origin"] = json.loads(to_json(self.origin))
        record |= {"models": self.models, "predicted_peak_bytes": self.predicted_peak_bytes}
        record |= {"budget_bytes": self.budget_bytes, "peak_bytes": self.peak_bytes}
        if self.sampling is not None:
            record["sampling"] = dataclasses.asdict(self.sampling)
        record["seconds"] = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        return json.dumps(record, ensure_ascii=False)


def ffmetadata(tags: dict[str, str]) -> str:
    """`tags` in ffmpeg's metadata file format; a file, since a command line is too short for long prompts.

    Raises ValueError for a value that ends with a backslash: ffmpeg reads its escaped form as a broken line.
    """
    if any(value.endswith("\\") for value in tags.values()):
        raise ValueError("a tag must not end with a backslash")
    return HEADER + "".join(f"{name}={_escaped(value)}\n" for name, value in tags.items())


def _escaped(value: str) -> str:
    return "".join("\\" + letter if letter in SPECIAL else letter for letter in value)
