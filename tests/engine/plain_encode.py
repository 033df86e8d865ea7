"""A plain untiled encode, written from the checkpoint's tensor names and FORMATS' rules alone.

The official rule: one frame, then four at a time, every causal convolution keeps the last two frames of its input,
the convolution in time of a downsampler skips the first chunk and later sees one frame before its own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.engine.plain_decode import PlainDecoder


class PlainEncoder(PlainDecoder):
    """Encodes video [1, 3, T, H, W] with the plain layers of the decoder; `temporal` is from the finest."""

    def encode(self, video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Normalised latents [1, z, T', h, w] with three stages of downsampling, two of them in time."""
        self.cache = {}
        chunks = [video[:, :, :1], *(video[:, :, i : i + 4] for i in range(1, video.shape[2], 4))]
        x = torch.cat([self.encode_chunk(chunk, first=i == 0) for i, chunk in enumerate(chunks)], dim=2)
        mu = F.conv3d(x, self.state["conv1.weight"], self.state["conv1.bias"]).chunk(2, dim=1)[0]
        return (mu - mean) / std

    def encode_chunk(self, x: Tensor, *, first: bool) -> Tensor:
        x = self.causal("encoder.conv1", x)
        layer = 0
        for stage in range(self.stages):
            for _ in range(self.res_blocks):
                x = self.residual(f"encoder.downsamples.{layer}", x)
                layer += 1
            if stage < self.stages - 1:
                x = self.downsample(f"encoder.downsamples.{layer}", x, temporal=self.temporal[stage], first=first)
                layer += 1
        x = self.residual("encoder.middle.0", x)
        x = self.attention("encoder.middle.1", x)
        x = self.residual("encoder.middle.2", x)
        return self.causal("encoder.head.2", F.silu(self.norm("encoder.head.0", x)))

    def downsample(self, name: str, x: Tensor, *, temporal: bool, first: bool) -> Tensor:
        weight, bias = self.state[f"{name}.resample.1.weight"], self.state[f"{name}.resample.1.bias"]
        frames = F.pad(x[0].transpose(0, 1), (0, 1, 0, 1))
        x = F.conv2d(frames, weight, bias, stride=2).transpose(0, 1)[None]
        if not temporal:
            return x
        before, self.cache[name] = self.cache.get(name), x[:, :, -1:].clone()
        if first or before is None:
            return x
        weight, bias = self.state[f"{name}.time_conv.weight"], self.state[f"{name}.time_conv.bias"]
        return F.conv3d(torch.cat([before, x], dim=2), weight, bias, stride=(2, 1, 1))
