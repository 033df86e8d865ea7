"""A plain untiled decode, written from the checkpoint's tensor names and FORMATS' rules alone.

Functions of a state dict; no class of the engine. The official rule: one latent at a time, every causal convolution
keeps the last two frames of its input, the convolution in time of an upsampler skips the first chunk and starts on
zeros in the second. Nothing is cut in rows.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


class PlainDecoder:
    """Decodes [1, z, T, h, w] latents (as the decoder takes them after z * std + mean)."""

    def __init__(self, state: State, temporal: tuple[bool, ...], res_blocks: int, stages: int) -> None:
        self.state = state
        self.temporal = temporal  # of the upsamplers, from the coarsest
        self.res_blocks = res_blocks
        self.stages = stages
        self.cache: State = {}

    def decode(self, z: Tensor) -> Tensor:
        """[1, z, T, h, w] to [1, 3, 4T-3, 8h, 8w] with three stages of upsampling, two of them in time."""
        self.cache = {}
        x = F.conv3d(z, self.state["conv2.weight"], self.state["conv2.bias"])
        return torch.cat([self.chunk(x[:, :, i : i + 1], first=i == 0) for i in range(z.shape[2])], dim=2)

    def chunk(self, x: Tensor, *, first: bool) -> Tensor:
        x = self.causal("decoder.conv1", x)
        x = self.residual("decoder.middle.0", x)
        x = self.attention("decoder.middle.1", x)
        x = self.residual("decoder.middle.2", x)
        layer = 0
        for stage in range(self.stages):
            for _ in range(self.res_blocks + 1):
                x = self.residual(f"decoder.upsamples.{layer}", x)
                layer += 1
            if stage < self.stages - 1:
                x = self.upsample(f"decoder.upsamples.{layer}", x, temporal=self.temporal[stage], first=first)
                layer += 1
        return self.causal("decoder.head.2", F.silu(self.norm("decoder.head.0", x)))

    def norm(self, name: str, x: Tensor) -> Tensor:
        gamma = self.state[f"{name}.gamma"]
        length = x.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return x / length * (x.shape[1] ** 0.5 * gamma)

    def causal(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        past = self.cache.get(name, x.new_zeros((*x.shape[:2], 2, *x.shape[3:])))
        x = torch.cat([past, x], dim=2)
        self.cache[name] = x[:, :, -2:].clone()
        margin = weight.shape[-1] // 2
        return F.conv3d(x, weight, bias, padding=(0, margin, margin))

    def residual(self, name: str, x: Tensor) -> Tensor:
        h = self.causal(f"{name}.residual.2", F.silu(self.norm(f"{name}.residual.0", x)))
        h = self.causal(f"{name}.residual.6", F.silu(self.norm(f"{name}.residual.3", h)))
        shortcut = f"{name}.shortcut.weight"
        if shortcut in self.state:
            x = F.conv3d(x, self.state[shortcut], self.state[f"{name}.shortcut.bias"])
        return h + x

    def attention(self, name: str, x: Tensor) -> Tensor:
        c, h, w = x.shape[1], x.shape[3], x.shape[4]
        frame = x[:, :, 0]
        normed = self.norm(f"{name}.norm", frame)
        qkv = F.conv2d(normed, self.state[f"{name}.to_qkv.weight"], self.state[f"{name}.to_qkv.bias"])
        q, k, v = qkv.reshape(1, 1, 3 * c, h * w).transpose(2, 3).chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(1, c, h, w)
        out = F.conv2d(out, self.state[f"{name}.proj.weight"], self.state[f"{name}.proj.bias"])
        return x + out[:, :, None]

    def upsample(self, name: str, x: Tensor, *, temporal: bool, first: bool) -> Tensor:
        if temporal and not first:
            x = self.causal(f"{name}.time_conv", x)
            even, odd = x.chunk(2, dim=1)
            x = torch.stack([even, odd], dim=3).flatten(2, 3)
        frames = F.interpolate(x[0].transpose(0, 1), scale_factor=2.0, mode="nearest-exact")
        weight, bias = self.state[f"{name}.resample.1.weight"], self.state[f"{name}.resample.1.bias"]
        out = F.conv2d(frames, weight, bias, padding=1)
        return out.transpose(0, 1)[None]
