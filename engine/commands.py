"""What the engine can be asked to do: frozen, picklable, torch-free; readable from any thread.

A command holds everything that matters to its result, so a job can be stored, replayed and tested.
"""

import dataclasses
import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from engine.decode.tiling import ReferenceTiling
from engine.events import DecodePlanned
from engine.model_choice import LoraUse, ModelParts, WeightForm, lora_from, parts_from

EMBEDDED_MODEL = Path(__file__).resolve().parent.parent / "resources" / "mini"
COMMAND_FILE = "command.json"  # in the folder of its job, beside the latents


class Solver(StrEnum):
    """Which integrator walks from noise to picture."""

    UNIPC = "unipc"
    EULER = "euler"


class DecodeMode(StrEnum):
    """How latents become pixels. All give the same picture but REFERENCE, which blends overlapping tiles."""

    AUTOMATIC = "automatic"
    WHOLE = "whole"
    STRIP_MAJOR = "strip_major"
    FRAME_MAJOR = "frame_major"
    REFERENCE = "reference"


class LatentsLayout(StrEnum):
    """Which comes first in a file of latents; `AUTOMATIC` is decided by format, shape and values."""

    AUTOMATIC = "automatic"
    CHANNELS_FIRST = "channels_first"
    FRAMES_FIRST = "frames_first"


class LatentsSpace(StrEnum):
    """What the values of a file of latents are: those the model samples (normalised), or those its VAE takes."""

    AUTOMATIC = "automatic"
    MODEL = "model"
    VAE = "vae"


@dataclass(frozen=True, slots=True)
class DecodeSettings:
    """How to cut the decode; `None` leaves a value to the planner.

    strip_rows: output rows of one strip. chunk_latents: latent frames of one step.
    budget_bytes: live tensor bytes that the decode must stay below. tiling: of the mode REFERENCE.
    """

    mode: DecodeMode = DecodeMode.AUTOMATIC
    strip_rows: int | None = None
    chunk_latents: int | None = None
    budget_bytes: int | None = None
    tiling: ReferenceTiling = field(default_factory=ReferenceTiling)


@dataclass(frozen=True, slots=True)
class GenerateVideo:
    """Prompt to MP4. `frames` is 4n+1; `width` and `height` in pixels; `fps` of the MP4.

    model: a folder, or the file of a transformer whose other `parts` are given. rounds_input: what meets a quantised
    weight is rounded as the weight is, where the card has tensor cores for that; faster, and less exact.
    """

    prompt: str
    output: Path
    model: Path = EMBEDDED_MODEL
    negative_prompt: str = ""
    width: int = 256
    height: int = 256
    frames: int = 33
    fps: int = 16
    steps: int = 20
    guidance: float = 4.0
    shift: float = 3.0
    seed: int = 0
    solver: Solver = Solver.UNIPC
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    parts: ModelParts = field(default_factory=ModelParts)
    weights: WeightForm = WeightForm.STORED
    loras: tuple[LoraUse, ...] = ()
    rounds_input: bool = False


@dataclass(frozen=True, slots=True)
class DecodeLatents:
    """Latents that a job left behind or another program saved to MP4; `model` and `fps` None mean the job's own.

    `layout` and `space` say what a file of another program does not say itself.
    """

    latents: Path
    output: Path
    model: Path | None = None
    fps: int | None = None
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    layout: LatentsLayout = LatentsLayout.AUTOMATIC
    space: LatentsSpace = LatentsSpace.AUTOMATIC
    parts: ModelParts = field(default_factory=ModelParts)


Command = GenerateVideo | DecodeLatents


@dataclass(frozen=True, slots=True)
class PlanDecode:
    """How would a clip of this size be decoded now? A question and no job: nothing is loaded, nothing is written."""

    model: Path
    width: int
    height: int
    frames: int
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    parts: ModelParts = field(default_factory=ModelParts)


@dataclass(frozen=True, slots=True)
class DecodeOutlook:
    """The answer to `PlanDecode`. `ground_bytes`: what a decode would find held, and be measured on top of."""

    planned: DecodePlanned
    ground_bytes: int


def to_json(command: Command) -> str:
    """The command as one JSON object with its kind, readable by `from_json`."""
    return json.dumps({"kind": type(command).__name__, **dataclasses.asdict(command)}, default=str, ensure_ascii=False)


def from_json(text: str) -> Command:
    """The command that `to_json` wrote. Raises ValueError or TypeError on anything else."""
    fields: dict[str, Any] = json.loads(text)
    kind = fields.pop("kind", None)
    decode = dict(fields.pop("decode"))
    tiling = ReferenceTiling(**decode.pop("tiling", {}))  # earlier files have none, nor `parts`, `weights`, `loras`
    fields["decode"] = DecodeSettings(**decode | {"mode": DecodeMode(decode["mode"]), "tiling": tiling})
    fields["parts"] = parts_from(fields.pop("parts", {}))
    fields |= {name: Path(fields[name]) for name in ("output", "model", "latents") if fields.get(name) is not None}
    match kind:
        case "GenerateVideo":
            weights = WeightForm(fields.pop("weights", WeightForm.STORED))
            loras = tuple(map(lora_from, fields.pop("loras", ())))
            return GenerateVideo(**fields | {"solver": Solver(fields["solver"]), "weights": weights, "loras": loras})
        case "DecodeLatents":
            layout = LatentsLayout(fields.pop("layout", LatentsLayout.AUTOMATIC))
            space = LatentsSpace(fields.pop("space", LatentsSpace.AUTOMATIC))
            return DecodeLatents(**fields, layout=layout, space=space)
        case _:
            raise ValueError(f"not a command: {kind!r}")
