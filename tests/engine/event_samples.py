"""One event of every kind, for tests that show them."""

from pathlib import Path

from engine.errors import ErrorCode
from engine.events import (
    DecodePlanned,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobStarted,
    LatentsSaved,
    Stage,
    StageFinished,
    StageProgressed,
    StageStarted,
)

LATENTS = Path("/l/latents.safetensors")
EVENTS: tuple[Event, ...] = (
    JobStarted(Path("/l"), 256, 256, 33, 16, (Stage.LOAD, Stage.SAMPLE)),
    DecodePlanned("strip_major", 32, 8, 1, 5 * 2**20, 0, None),
    StageStarted(Stage.SAMPLE, 2**20),
    StageProgressed(Stage.SAMPLE, 1, 20),
    StageFinished(Stage.SAMPLE, 1.5, 3 * 2**30),
    LatentsSaved(LATENTS),
    JobFinished(Path("/o.mp4"), 12.5, 3 * 2**30),
    JobCancelled(LATENTS),
    JobFailed(ErrorCode.OUTPUT_NOT_WRITABLE, {"path": "/o", "reason": "No space left"}, "", LATENTS),
)
