"""What the planner says decoding clips of usual sizes takes, with Wan 2.1's VAE in bfloat16; nothing is decoded."""

from dataclasses import replace

import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import DecodePlan, plan
from engine.errors import EngineError
from engine.models.video_vae import VideoVaeConfig
from tests.bench.decode_case import Shape, latent_shape

SIZES = ((832, 480, 81), (1280, 720, 61), (1280, 720, 121), (1920, 1088, 61), (3840, 2160, 61))  # width, height, frames
WAYS = {
    "smallest": DecodeSettings(),
    "whole": DecodeSettings(DecodeMode.WHOLE, chunk_latents=1),
    "reference": DecodeSettings(DecodeMode.REFERENCE),
}
COLUMNS = ("clip", "decode", "cut", "peak GiB", "host GB", "TFLOP", "ratio")


def predictions() -> list[tuple[str, ...]]:
    """`COLUMNS`, then a row for every size and way; `smallest` is the plan of the smallest budget that would do."""
    config = VideoVaeConfig()
    rows: list[tuple[str, ...]] = [COLUMNS]
    for width, height, frames in SIZES:
        shape = latent_shape(config, (width, height), frames)
        for way, settings in WAYS.items():
            made = smallest(shape, config) if way == "smallest" else plan(shape, config, torch.bfloat16, settings)
            rows.append((f"{width}x{height}, {frames} frames", way, said_cut(made), *figures(made)))
    return rows


def smallest(shape: Shape, config: VideoVaeConfig) -> DecodePlan:
    """The fastest plan in the smallest budget that any plan fits."""
    try:
        return plan(shape, config, torch.bfloat16, DecodeSettings(budget_bytes=0))
    except EngineError as error:
        budget = int(error.details["smallest_bytes"])
    return plan(shape, config, torch.bfloat16, replace(WAYS["smallest"], budget_bytes=budget))


def said_cut(made: DecodePlan) -> str:
    """How `made` cuts, in few words."""
    if made.tiling is not None:
        return f"tiles {made.tiling.tile_width}x{made.tiling.tile_height}"
    return f"{made.order.replace('_', '-')}, {made.strip_rows} rows, {made.chunk_latents} latents, {made.caches}"


def figures(made: DecodePlan) -> tuple[str, str, str, str]:
    """Peak on the card, host memory, operations, and these over those of decoding whole."""
    peak, host = f"{made.predicted_peak_bytes / 2**30:.2f}", f"{made.host_bytes / 1e9:.2f}"
    return peak, host, f"{made.tflop:.1f}", f"{made.ratio_to_untiled:.2f}"
