"""What a plan takes beside decoding whole and decoding in overlapping tiles: figures for people. Pure."""

import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import DecodePlan, plan
from engine.decode.tiling import ReferenceTiling
from engine.errors import EngineError
from engine.events import DecodeFigures, DecodePlanned
from engine.models.video_vae import VideoVaeConfig

REFERENCE_ORDER = "reference"  # overlapping tiles have no order of their own


def describe(decode_plan: DecodePlan, width: int, config: VideoVaeConfig, dtype: torch.dtype) -> DecodePlanned:
    """`decode_plan` for latents of `width` columns, beside its alternatives."""
    shape = (decode_plan.latent_frames, decode_plan.latent_height, width)
    untiled = plan(shape, config, dtype, DecodeSettings(DecodeMode.WHOLE, chunk_latents=1))
    tiling = decode_plan.tiling or ReferenceTiling()
    try:
        tiles = figures(plan(shape, config, dtype, DecodeSettings(DecodeMode.REFERENCE, tiling=tiling)))
    except EngineError:  # nobody asked for these tiles, which a VAE of other factors than Wan's cannot cut
        tiles = None
    return DecodePlanned(figures(decode_plan), decode_plan.budget_bytes, untiled=figures(untiled), reference=tiles)


def figures(decode_plan: DecodePlan) -> DecodeFigures:
    """`decode_plan` without what only the decoder needs."""
    return DecodeFigures(
        order=decode_plan.order if decode_plan.tiling is None else REFERENCE_ORDER,
        strip_rows=decode_plan.strip_rows,
        strips=decode_plan.strips if decode_plan.tiling is None else decode_plan.blocks,
        chunk_latents=decode_plan.chunk_latents,
        caches=decode_plan.caches,
        predicted_peak_bytes=decode_plan.predicted_peak_bytes,
        host_bytes=decode_plan.host_bytes,
        file_bytes=decode_plan.file_bytes,
        tflop=decode_plan.tflop,
        ratio_to_untiled=decode_plan.ratio_to_untiled,
    )
