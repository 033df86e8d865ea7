"""Runs an encode on tensors without values and counts what would be alive: the check on the planner's formulas."""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.decode.rows import Range
from engine.encode.plan import EncodePlan
from engine.encode.streaming import encode_video
from engine.memory.simulate import CARD, HOST, LiveStorages, Simulated, decoder_without_values
from engine.models.video_vae import VideoVaeConfig


def simulate_encode(config: VideoVaeConfig, width: int, dtype: torch.dtype, plan: EncodePlan) -> Simulated:
    """Encode pictures of `width` columns as `plan` says, without values; pixels are made where they are asked for."""

    def pixels(frames: Range, rows: Range) -> Tensor:
        return torch.empty(3, frames[1] - frames[0], rows[1] - rows[0], width, device=HOST)

    storages = LiveStorages()
    with FakeTensorMode():
        vae = decoder_without_values(config, dtype)
        with storages:
            for module in (vae.encoder, vae.conv1):
                for parameter in module.parameters():
                    storages.follow(parameter)
            encode_video(vae, pixels, plan)
    return Simulated(storages.peak[CARD], storages.peak[HOST])
