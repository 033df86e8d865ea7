"""Chooses how the encode is cut: the fewest steps inside a budget, or the smallest budget that would do. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch

from engine.decode.cut import CachePlace, Cut, DecodeOrder
from engine.decode.plan import CHUNK_LATENTS, STRIP_ROWS
from engine.encode.cost import encode_cost
from engine.errors import EngineError, ErrorCode
from engine.models.video_vae import VideoVaeConfig
from engine.sampling.validation import check_size


@dataclass(frozen=True, slots=True)
class EncodePlan(Cut):
    """A cut, of rows of pixels here, and what it costs. Bytes are live tensor bytes; the peak includes the weights.

    latent_shape: (T, h, w). temporal_factor: frames of a latent frame after the first. predicted_peak_bytes: on the
    card. host_bytes: what waits outside it, without the pixels. budget_bytes: what the peak was held to.
    """

    latent_shape: tuple[int, int, int]
    temporal_factor: int
    predicted_peak_bytes: int
    host_bytes: int
    budget_bytes: int | None
    tflop: float

    @property
    def frames(self) -> int:
        """Frames that are encoded."""
        return self.chunk_frame_range(self.chunks - 1)[1]

    def chunk_frame_range(self, chunk: int) -> tuple[int, int]:
        """First frame of `chunk` and one past its last."""
        start, stop = self.chunk_latent_range(chunk)
        return (start - 1) * self.temporal_factor + 1 if start else 0, (stop - 1) * self.temporal_factor + 1


def plan_encode(
    frames: int,
    height: int,
    width: int,
    config: VideoVaeConfig,
    dtype: torch.dtype,
    budget_bytes: int | None = None,
    *,
    strip_rows: int | None = None,
    chunk_latents: int | None = None,
) -> EncodePlan:
    """The largest steps inside the budget for a video of `frames` frames, `height` rows and `width` columns of pixels.

    Surplus frames are dropped, as officially. Of cuts with as many steps the one with the fewest chunks is taken:
    every chunk has all time caches cross the bus twice. `strip_rows` and `chunk_latents` are chosen where not given.

    Raises EngineError: INVALID_SIZE; INVALID_FRAMES below one frame; INVALID_SETTING for a strip or chunk below one;
    NO_PLAN_FITS with the budget and the smallest budget that would do.
    """
    check_size(width, height, config.spatial_factor)
    if frames < 1:
        raise EngineError(ErrorCode.INVALID_FRAMES, frames=frames, nearest="1")
    _check(strip_rows, chunk_latents, config.patch_size)
    cuts = _cuts(config.latent_frames(frames), height, strip_rows, chunk_latents)
    plans = [_as_plan(cut, width, config, dtype, budget_bytes) for cut in cuts]
    fitting = [made for made in plans if budget_bytes is None or made.predicted_peak_bytes <= budget_bytes]
    if not fitting:
        smallest = min(made.predicted_peak_bytes for made in plans)
        raise EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=budget_bytes or 0, smallest_bytes=smallest)
    return min(fitting, key=lambda made: (made.strips * made.chunks, made.chunks, made.predicted_peak_bytes))


def _check(strip_rows: int | None, chunk_latents: int | None, patch: int) -> None:
    if strip_rows is not None and (strip_rows < patch or strip_rows % patch):
        allowed = "1 or more" if patch == 1 else f"multiples of {patch}"
        raise EngineError(ErrorCode.INVALID_SETTING, name="strip_rows", value=strip_rows, allowed=allowed)
    if chunk_latents is not None and chunk_latents < 1:
        raise EngineError(ErrorCode.INVALID_SETTING, name="chunk_latents", value=chunk_latents, allowed="1 or more")


def _cuts(latent_frames: int, height: int, strip_rows: int | None, chunk_latents: int | None) -> Iterator[Cut]:
    longest = max(1, latent_frames - 1)
    strips = (*(rows for rows in STRIP_ROWS if rows < height), height) if strip_rows is None else (strip_rows,)
    chunks = [chunk for chunk in CHUNK_LATENTS if chunk <= longest] if chunk_latents is None else [chunk_latents]
    for rows in strips:
        for chunk in chunks:
            rows_used, chunk_used = min(rows, height), min(chunk, longest)
            yield Cut(latent_frames, height, DecodeOrder.FRAME_MAJOR, rows_used, chunk_used, CachePlace.HOST)


def _as_plan(cut: Cut, width: int, config: VideoVaeConfig, dtype: torch.dtype, budget_bytes: int | None) -> EncodePlan:
    cost = encode_cost(cut, width, config, dtype)
    return EncodePlan(
        **{field.name: getattr(cut, field.name) for field in fields(Cut)},
        latent_shape=(cut.latent_frames, cut.height // config.spatial_factor, width // config.spatial_factor),
        temporal_factor=config.temporal_factor,
        predicted_peak_bytes=cost.peak_bytes,
        host_bytes=cost.host_bytes,
        budget_bytes=budget_bytes,
        tflop=cost.flop / 1e12,
    )
