"""The pictures of latents while they are sampled; engine thread.

A tiny decoder paints them where the model's folder has one. For everybody else a linear map from latent channels to
colours does, one pixel for every place of the latents.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import EngineError, ErrorCode
from engine.models.preview_decoder import PreviewDecoder, StreamState
from engine.weights.preview import PreviewFile

SHARED_FACTORS = Path(__file__).resolve().parent.parent / "resources" / "latent_rgb_factors.json"


@dataclass(frozen=True, slots=True)
class RgbFactors:
    """rgb = latents . factors + bias in -1..1; factors [z, 3], bias [3]."""

    factors: Tensor
    bias: Tensor


Preview = RgbFactors | PreviewDecoder


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


def preview_scale(painter: PreviewFile | None) -> int:
    """Rows of a preview picture per latent row: half of those that `painter` paints, 1 for the linear map.

    Half is about what a window shows, and a quarter of the bytes to hold and to fetch from a card.
    """
    return 1 if painter is None else painter.config.spatial_factor // 2


def preview_pictures(
    latents: Tensor, preview: Preview, size: tuple[int, int], on_layer: Callable[[], None]
) -> Iterator[np.ndarray]:
    """Normalised latents [1, z, T, h, w] to one picture per latent frame: uint8 [rows, columns, 3], B, G, R.

    `size` is (rows, columns) of what a decoder paints, the linear map gives (h, w). A decoder works one frame at a
    time, in constant memory, and shows the last of the frames that a latent frame stands for; `on_layer` is called
    before each of its layers.
    """
    if isinstance(preview, RgbFactors):
        yield from preview_picture(latents, preview)
        return
    state, dtype = StreamState(), next(preview.parameters()).dtype
    for latent in latents.unbind(2):
        yield _as_bytes(preview.last_picture(latent.to(dtype), state, on_layer), size)


def _as_bytes(picture: Tensor, size: tuple[int, int]) -> np.ndarray:
    """RGB [1, 3, H, W] in 0..1, averaged down to `size`, as uint8 [rows, columns, 3], B, G, R."""
    small = F.interpolate(picture, size, mode="area").float()
    levels = (small[0] * 255).round().to(torch.uint8)  # [3, rows, columns]
    return levels.flip(0).permute(1, 2, 0).cpu().numpy()
