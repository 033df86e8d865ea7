"""What the engine reports while it works: a closed union of frozen dataclasses, torch-free.

Events are codes and data, never sentences. They are emitted from the engine's thread.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.errors import ErrorCode


class Stage(StrEnum):
    """The stages of a job, in the order they run."""

    TEXT = "text"
    IMAGE = "image"
    SAMPLE = "sample"
    DECODE = "decode"
    ENCODE = "encode"


@dataclass(frozen=True, slots=True)
class DecodeFigures:
    """One way to decode a clip and what it takes. Bytes are live tensor bytes; the peak includes the decoder's weights.

    order: `strip_major` or `frame_major`, or `reference` for overlapping tiles of `strip_rows` rows. caches: where
    those of the outer loop wait, `card`, `host` or `files`. ratio_to_untiled: operations over those of decoding whole.
    """

    order: str
    strip_rows: int
    strips: int
    chunk_latents: int
    caches: str
    predicted_peak_bytes: int
    host_bytes: int
    file_bytes: int
    tflop: float
    ratio_to_untiled: float


@dataclass(frozen=True, slots=True)
class DecodePlanned:
    """How the clip will be decoded, beside what decoding it whole and in overlapping tiles would take.

    `budget_bytes` is what the planner was held to, None for a machine without limits. `reference` is None where the
    usual tiles do not fit the VAE.
    """

    plan: DecodeFigures
    budget_bytes: int | None
    untiled: DecodeFigures
    reference: DecodeFigures | None


@dataclass(frozen=True, slots=True)
class DecodeRecut:
    """Memory ran out while decoding: strips have `strip_rows` rows from now on, finished rows stay."""

    strip_rows: int


@dataclass(frozen=True, slots=True)
class StageOutlook:
    """What a stage will take on the card at most, in live tensor bytes with its weights, and what it is held to.

    overhead_bytes: what a card reserves beside tensors. smallest_bytes: the least budget that would do. budget_bytes
    None is no limit.
    """

    stage: Stage
    predicted_peak_bytes: int
    smallest_bytes: int
    budget_bytes: int | None
    overhead_bytes: int = 0

    @property
    def fits(self) -> bool:
        """Whether the stage keeps to its budget."""
        return self.budget_bytes is None or self.predicted_peak_bytes + self.overhead_bytes <= self.budget_bytes


@dataclass(frozen=True, slots=True)
class SamplingFigures:
    """How sampling is cut: `resident_blocks` of `blocks` stay on the card, `chunk_tokens` of `tokens` go together.

    host_bytes: blocks that wait in host memory or files. copied_bytes, tflop: of one step. seconds: of one step on
    this device, roughly; None where nobody can say.
    """

    resident_blocks: int
    blocks: int
    chunk_tokens: int
    tokens: int
    host_bytes: int
    copied_bytes: int
    tflop: float
    seconds: float | None


@dataclass(frozen=True, slots=True)
class JobPlanned:
    """What every stage of a job will take before it starts, in the order they run, and how sampling is cut."""

    stages: tuple[StageOutlook, ...]
    sampling: SamplingFigures
    budget_bytes: int | None

    @property
    def fits(self) -> bool:
        """Whether all stages keep to their budgets."""
        return all(stage.fits for stage in self.stages)


@dataclass(frozen=True, slots=True)
class SamplingRecut:
    """Memory ran out while sampling: from the last finished step on it goes in smaller pieces."""

    resident_blocks: int
    chunk_tokens: int


@dataclass(frozen=True, slots=True)
class SamplingKept:
    """The state after `steps` steps is on disk; a job that is stopped or killed can go on from there."""

    steps: int


@dataclass(frozen=True, slots=True)
class LoraMatched:
    """What of a LoRA file the model takes: so many parameters are changed.

    skipped: stored names of what only other models of the family take; unmatched: of what no model has a place for.
    """

    path: Path
    changed: int
    skipped: tuple[str, ...]
    unmatched: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProductsChosen:
    """How so many quantised layers are computed, and why: codes of `engine.models.scaled_products`."""

    product: str
    reason: str
    layers: int


@dataclass(frozen=True, slots=True)
class JobStarted:
    """A job began; `job_folder` holds its command and will hold its latents."""

    job_folder: Path
    width: int
    height: int
    frames: int
    fps: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class StageStarted:
    """What the stage will take at most, and what it is held to, measured as `StageFinished.peak_bytes` will be.

    `budget_bytes` is None for stages that are not held to any.
    """

    stage: Stage
    predicted_peak_bytes: int
    budget_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StageProgressed:
    """`done` of `total` units: steps when sampling, strips of the plan when decoding, frames when encoding."""

    stage: Stage
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class WeightsRead:
    """A network of the stage is on its way from its files: `done_bytes` of `total_bytes`. Told a few times a second."""

    stage: Stage
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class StageFinished:
    """`peak_bytes` is the device allocator's own maximum, or on a CPU the peak of the process."""

    stage: Stage
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class LatentsSaved:
    """From here on the sampled result survives anything; `engine decode` can pick it up."""

    path: Path


@dataclass(frozen=True, slots=True)
class JobFinished:
    """The MP4 is complete at `path`."""

    path: Path
    seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """The job stopped because it was asked to; `latents` is set when sampling had finished.

    kept_steps: steps of sampling that are on disk, from which the job can go on.
    """

    latents: Path | None = None
    kept_steps: int = 0


@dataclass(frozen=True, slots=True)
class JobFailed:
    """The job failed. `details` fill the sentence that belongs to `code`; `technical` is for a log.

    latents, kept_steps: as in `JobCancelled`.
    """

    code: ErrorCode
    details: dict[str, str | int | float]
    technical: str
    latents: Path | None = None
    kept_steps: int = 0


Event = (
    JobStarted
    | LoraMatched
    | ProductsChosen
    | StageStarted
    | StageProgressed
    | WeightsRead
    | StageFinished
    | JobPlanned
    | SamplingRecut
    | SamplingKept
    | DecodePlanned
    | DecodeRecut
    | LatentsSaved
    | JobFinished
    | JobCancelled
    | JobFailed
)
