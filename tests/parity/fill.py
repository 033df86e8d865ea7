"""Reproducible weights and inputs of `parity_vectors.json`: a hash of the name and the flat index."""

import zlib

import numpy as np
import torch
from torch import Tensor, nn


def uniform(name: str, count: int) -> np.ndarray:
    """`count` float64 values in -1..1 that any program can regenerate from `name`."""
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(zlib.crc32(name.encode()))
        x ^= x >> np.uint32(15)
        x *= np.uint32(2246822519)
        x ^= x >> np.uint32(13)
    return x.astype(np.float64) / 2**31 - 1


def filled(name: str, *shape: int) -> Tensor:
    """An input tensor called `name`, float32."""
    return torch.from_numpy(uniform(name, int(np.prod(shape))).astype(np.float32)).view(shape)


def parameter_values(name: str, shape: torch.Size) -> np.ndarray:
    """Values of a parameter by the three rules of the file's `fill` text."""
    u = uniform(name, shape.numel())
    if len(shape) >= 2 and not name.endswith("gamma") and "modulation" not in name:
        return u * np.sqrt(1.5 / (shape.numel() / shape[0]))
    if name.endswith(("gamma", "weight")):
        return 1 + 0.2 * u
    return 0.2 * u


@torch.no_grad()
def fill_parameters(module: nn.Module) -> nn.Module:
    """Give every parameter of `module` its reproducible value, by its state-dict name."""
    for name, parameter in module.named_parameters():
        values = parameter_values(name, parameter.shape).astype(np.float32)
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))
    return module
