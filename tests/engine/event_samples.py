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
    JobPlanned,
    JobStarted,
    LatentsSaved,
    LoraMatched,
    ProductsChosen,
    SamplingFigures,
    SamplingKept,
    SamplingRecut,
    Stage,
    StageFinished,
    StageOutlook,
    StageProgressed,
    StageStarted,
    WeightsRead,
)

LATENTS = Path("/l/latents.safetensors")
STRIPS = DecodeFigures("strip_major", 32, 8, 1, "host", 5 * 2**20, 2**20, 0, 1.0, 1.0)
WHOLE = DecodeFigures("frame_major", 256, 1, 1, "card", 20 * 2**20, 2**20, 0, 1.0, 1.0)
TILES = DecodeFigures("reference", 272, 1, 1, "card", 21 * 2**20, 2**20, 0, 3.0, 3.0)
SAMPLING = SamplingFigures(10, 40, 4096, 32760, 9 * 2**30, 9 * 2**30, 800.0, 62.0)
STAGES = (
    StageOutlook(Stage.TEXT, 2**30, 2**29, 8 * 2**30),
    StageOutlook(Stage.SAMPLE, 9 * 2**30, 3 * 2**30, 8 * 2**30),
)
EVENTS: tuple[Event, ...] = (
    JobStarted(Path("/l"), 256, 256, 33, 16, (Stage.TEXT, Stage.SAMPLE)),
    LoraMatched(Path("/style.safetensors"), 300, ("patch_embedding.diff",), ("mystery",)),
    JobPlanned(STAGES, SAMPLING, 8 * 2**30),
    SamplingKept(12),
    SamplingRecut(4, 2048),
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
