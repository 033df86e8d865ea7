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
from engine.events import DecodePlanned, JobPlanned
from engine.generation import AttentionBackend, Given, SamplingSettings, Solver, given_from, sampling_from
from engine.model_choice import LoraUse, ModelParts, WeightForm, lora_from, parts_from

EMBEDDED_MODEL = Path(__file__).resolve().parent.parent / "resources" / "mini"
COMMAND_FILE = "command.json"  # in the folder of its job, beside the latents


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

    guidance_low, boundary: of models of two transformers, the guidance of the second, and the noise level (0..1) below
    which it takes over; None leaves them to the model. times: the noise levels of a distilled model times 1000, before
    the shift, one a step; empty for `steps` even ones. budget_bytes: what every stage must stay below on the card.
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
    guidance_low: float | None = None
    boundary: float | None = None
    times: tuple[float, ...] = ()
    given: Given = field(default_factory=Given)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    budget_bytes: int | None = None


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


@dataclass(frozen=True, slots=True)
class ContinueVideo:
    """Go on with a job that was killed, failed or stopped while sampling, in its own folder `job`, to the same result.

    It begins after the step that was kept last, or at the first where none was. What it makes is said in the folder.
    """

    job: Path
    output: Path


Command = GenerateVideo | DecodeLatents | ContinueVideo


@dataclass(frozen=True, slots=True)
class BackendState:
    """Whether an attention back end can be used here: `reason` is a code of `engine.attention`, `detail` its data."""

    backend: AttentionBackend
    is_available: bool
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PlanJob:
    """What would this job take now? A question and no job: headers are read, nothing is loaded or written."""

    command: GenerateVideo


@dataclass(frozen=True, slots=True)
class JobOutlook:
    """The answer to `PlanJob`: every stage, how sampling and decoding are cut, and what this machine can do.

    width, height: what is sampled, where what was asked for is not legal for the model. compile_reason: why blocks
    cannot be compiled here, empty where they can be. ground_bytes: what a decode would find held.
    """

    planned: JobPlanned
    decode: DecodePlanned
    width: int
    height: int
    backends: tuple[BackendState, ...]
    compile_reason: str
    ground_bytes: int


def to_json(command: Command) -> str:
    """The command as one JSON object with its kind, readable by `from_json`."""
    return json.dumps({"kind": type(command).__name__, **dataclasses.asdict(command)}, default=str, ensure_ascii=False)


def from_json(text: str) -> Command:
    """The command that `to_json` wrote. Raises ValueError or TypeError on anything else."""
    fields: dict[str, Any] = json.loads(text)
    kind = fields.pop("kind", None)
    if kind == "ContinueVideo":
        return ContinueVideo(**{name: Path(path) for name, path in fields.items()})
    decode = dict(fields.pop("decode"))
    tiling = ReferenceTiling(**decode.pop("tiling", {}))  # earlier files have none, nor `parts`, `weights`, `loras`
    fields["decode"] = DecodeSettings(**decode | {"mode": DecodeMode(decode["mode"]), "tiling": tiling})
    fields["parts"] = parts_from(fields.pop("parts", {}))
    fields |= {name: Path(fields[name]) for name in ("output", "model", "latents") if fields.get(name) is not None}
    match kind:
        case "GenerateVideo":
            weights = WeightForm(fields.pop("weights", WeightForm.STORED))
            loras = tuple(map(lora_from, fields.pop("loras", ())))
            fields["given"] = given_from(fields.pop("given", {}))
            fields["sampling"] = sampling_from(fields.pop("sampling", {}))
            fields["times"] = tuple(fields.pop("times", ()))
            return GenerateVideo(**fields | {"solver": Solver(fields["solver"]), "weights": weights, "loras": loras})
        case "DecodeLatents":
            layout = LatentsLayout(fields.pop("layout", LatentsLayout.AUTOMATIC))
            space = LatentsSpace(fields.pop("space", LatentsSpace.AUTOMATIC))
            return DecodeLatents(**fields, layout=layout, space=space)
        case _:
            raise ValueError(f"not a command: {kind!r}")
