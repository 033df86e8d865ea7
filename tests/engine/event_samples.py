"""One event of every kind, for tests that show them."""

from pathlib import Path

from engine.errors import ErrorCode
from engine.events import (
    DecodeFigures,
    DecodePlanned,
    DecodeRecut,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobStarted,
    LatentsSaved,
    LoraMatched,
    ProductsChosen,
    Stage,
    StageFinished,
    StageProgressed,
    StageStarted,
    WeightsRead,
)

LATENTS = Path("/l/latents.safetensors")
STRIPS = DecodeFigures("strip_major", 32, 8, 1, "host", 5 * 2**20, 2**20, 0, 1.0, 1.0)
WHOLE = DecodeFigures("frame_major", 256, 1, 1, "card", 20 * 2**20, 2**20, 0, 1.0, 1.0)
TILES = DecodeFigures("reference", 272, 1, 1, "card", 21 * 2**20, 2**20, 0, 3.0, 3.0)
EVENTS: tuple[Event, ...] = (
    JobStarted(Path("/l"), 256, 256, 33, 16, (Stage.LOAD, Stage.SAMPLE)),
    LoraMatched(Path("/style.safetensors"), 300, ("patch_embedding.diff",), ("mystery",)),
    DecodePlanned(STRIPS, None, untiled=WHOLE, reference=TILES),
    DecodeRecut(16),
    StageStarted(Stage.SAMPLE, 2**20),
    ProductsChosen("dequantized", "not_asked", 300),
    WeightsRead(Stage.SAMPLE, 3 * 2**30, 14 * 2**30),
    StageProgressed(Stage.SAMPLE, 1, 20),
    StageFinished(Stage.SAMPLE, 1.5, 3 * 2**30),
    LatentsSaved(LATENTS),
    JobFinished(Path("/o.mp4"), 12.5, 3 * 2**30),
    JobCancelled(LATENTS),
    JobFailed(ErrorCode.OUTPUT_NOT_WRITABLE, {"path": "/o", "reason": "No space left"}, "", LATENTS),
)
