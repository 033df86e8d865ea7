"""The rough picture of latents while they are sampled: a linear map from latent channels to colours."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.errors import EngineError, ErrorCode

SHARED_FACTORS = Path(__file__).resolve().parent.parent / "resources" / "latent_rgb_factors.json"


@dataclass(frozen=True, slots=True)
class RgbFactors:
    """rgb = latents . factors + bias in -1..1; factors [z, 3], bias [3]."""

    factors: Tensor
    bias: Tensor


def read_factors(own: Path | None, channels: int) -> RgbFactors | None:
    """The factors of a VAE with `channels` latent channels: the model's `own` file, else those of Wan's VAEs.

    None when nobody knows any, and then there is no preview. Raises MODEL_INVALID for a damaged file.
    """
    if own is None:
        known = json.loads(SHARED_FACTORS.read_text("utf-8")).values()
        tables = [table for table in known if isinstance(table, dict) and table["channels"] == channels]
        return _factors(tables[0]) if tables else None
    try:
        found = _factors(json.loads(own.read_text("utf-8")))
        if found.factors.shape != (channels, 3) or found.bias.shape != (3,):
            raise ValueError(f"factors are {tuple(found.factors.shape)}, not ({channels}, 3)")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise EngineError(ErrorCode.MODEL_INVALID, file=str(own), reason=str(error)) from error
    return found


def _factors(table: dict[str, list[list[float]]]) -> RgbFactors:
    return RgbFactors(
        torch.tensor(table["factors"], dtype=torch.float32), torch.tensor(table["bias"], dtype=torch.float32)
    )


def preview_picture(latents: Tensor, factors: RgbFactors) -> np.ndarray:
    """Normalised latents [1, z, T, h, w] to one small picture per latent frame: uint8 [T, h, w, 3], B, G, R."""
    rgb = torch.einsum("zthw,zc->thwc", latents[0].float(), factors.factors.to(latents.device))
    rgb = rgb + factors.bias.to(latents.device)
    levels = ((rgb + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)  # [T, h, w, 3]
    return levels.flip(-1).cpu().numpy()
