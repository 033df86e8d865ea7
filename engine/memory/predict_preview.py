"""Predicts what the preview decoder takes beside the sampling it shows: weights, memories, its dearest moment. Pure."""

from itertools import pairwise

import torch

from engine.device import Device
from engine.models.preview_decoder import PreviewDecoder, PreviewDecoderConfig
from engine.models.rope import Grid

MEMORY_BLOCKS = 3  # in every stage
# What a block has alive beside its memory, in frames of its width: the frame before, both side by side, its layers.
PLAIN_BLOCK_FRAMES = 1 + 2 + 2
SUPER_BLOCK_FRAMES = 1 + 2 + 2 + 4
GROWTH = 4  # of a frame's area from stage to stage
# On a CPU as much again, as measured: its convolution library has room of its own for what it computes, and freed
# memory is not handed back at once.
CPU_TIMES = 2


def preview_stage_bytes(config: PreviewDecoderConfig, latent_size: Grid, device: Device) -> int:
    """What showing latents of `latent_size` (T, h, w) adds to the peak of a stage on `device`, as it is measured."""
    tensors = preview_peak(config, latent_size, device.network_dtype)
    return tensors * CPU_TIMES if device.torch_device.type == "cpu" else tensors


def preview_peak(config: PreviewDecoderConfig, latent_size: Grid, dtype: torch.dtype) -> int:
    """Bytes of live tensors: the decoder, and one frame on its way through. T does not matter, frames come singly."""
    with torch.device("meta"):
        weights = sum(parameter.numel() for parameter in PreviewDecoder(config).parameters())
    _, rows, columns = latent_size
    areas = [rows * columns * GROWTH**stage for stage in range(len(config.widths) - 1)]
    memories = sum(MEMORY_BLOCKS * width * area for width, area in zip(config.widths, areas, strict=False))
    latent = config.latent_channels * areas[0]
    return dtype.itemsize * (weights + memories + latent + _dearest_moment(config, areas))


def _dearest_moment(config: PreviewDecoderConfig, areas: list[int]) -> int:
    """A block of some stage, or the layers behind the last stage; elements.

    A frame that grew waits, enlarged, until all that came of it is through; and where two frames come out of the last
    stage, the first is still there while the second is made.
    """
    block = SUPER_BLOCK_FRAMES if config.is_super else PLAIN_BLOCK_FRAMES
    moments, waiting = [], [0]
    for (width, next_width), area in zip(pairwise(config.widths), areas, strict=True):
        moments.append(sum(waiting) + block * width * area)
        waiting.append(GROWTH * area * (next_width if config.is_super else max(width, next_width)))
    moments[-1] += config.widths[-2] * areas[-1]
    return max(*moments, 2 * waiting[-1])
