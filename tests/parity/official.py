"""What the parity tests compare with: recorded outputs of the official code, and names in other implementations."""

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DATA = Path(__file__).parent / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "parity_vectors.json").read_text("utf-8"))
RENAMES: dict[str, list[list[str]]] = json.loads((DATA / "renames.json").read_text("utf-8"))


def assert_recorded(out: Tensor, recorded: dict[str, Any], tolerance: float = 1e-5) -> None:
    """`out` has the shape, the statistics and the sampled values of the official output (six digits)."""
    assert list(out.shape) == recorded["shape"]
    values = torch.tensor([out.flatten()[int(index)] for index in recorded["at"]])
    torch.testing.assert_close(values, torch.tensor(list(recorded["at"].values())), rtol=tolerance, atol=tolerance)
    statistics = torch.stack([out.mean(), out.std(correction=0)])
    expected = torch.tensor([recorded["mean"], recorded["std"]])
    torch.testing.assert_close(statistics, expected, rtol=tolerance, atol=tolerance)


def assert_close(ours: Tensor, peers: Tensor, max_difference: float) -> None:
    """Same shape, and no element further apart than `max_difference`."""
    assert ours.shape == peers.shape
    assert (ours - peers).abs().max().item() <= max_difference


def renamed(state: dict[str, Tensor], network: str) -> dict[str, Tensor]:
    """`state` under the names of diffusers or transformers; the first matching rule of `renames.json` wins."""
    return {rename(name, RENAMES[network]): tensor for name, tensor in state.items()}


def rename(name: str, rules: list[list[str]]) -> str:
    """The peer's name of the tensor called `name`; names without a rule are the same there."""
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(pattern, replacement, name)
    return name
