"""Chooses how the decode is cut: the fastest plan inside a budget, or the smallest budget that would do. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.cost import CutCost, cut_cost
from engine.decode.cut import CachePlace, Cut, DecodeOrder
from engine.decode.reference_cost import reference_cost
from engine.decode.tiling import ReferenceTiling, tile_rows
from engine.errors import EngineError, ErrorCode
from engine.memory.limits import MemoryLimits
from engine.models.video_vae import VideoVaeConfig

__all__ = ["DecodeOrder", "DecodePlan", "plan"]

STRIP_ROWS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
CHUNK_LATENTS = (1, 2, 4, 8)
SMALLEST_STRIP = STRIP_ROWS[0]  # below it the lag of the layers, and no longer the strip, is what takes memory

# What the ranking of plans assumes of a card. Only the ratios matter: they say when larger steps are no longer
# worth their memory, and that caches on the card are cheap beside caches across the bus.
FLOP_PER_SECOND = 5e13
BYTES_PER_SECOND = {CachePlace.CARD: 5e11, CachePlace.HOST: 1.2e10, CachePlace.FILES: 1e9}
SECONDS_PER_STEP = 2e-3  # starting the kernels of all layers once


@dataclass(frozen=True, slots=True)
class DecodePlan(Cut):
    """A cut and what it costs. Bytes are live tensor bytes; the peak includes the decoder's weights.

    tiling: given for a decode in overlapping tiles of `strip_rows` rows, which `decode_blocks` knows nothing of.
    predicted_peak_bytes: on the card. host_bytes and file_bytes: what waits outside it, latents, the stem's output
    and far caches. budget_bytes: what the peak was held to. tflop: of the whole decode. ratio_to_untiled: its
    operations over those of decoding whole.
    """

    latent_height: int
    tiling: ReferenceTiling | None
    predicted_peak_bytes: int
    host_bytes: int
    file_bytes: int
    budget_bytes: int | None
    tflop: float
    ratio_to_untiled: float

    @property
    def blocks(self) -> int:
        """How many blocks the decode hands out."""
        return self.strips * self.chunks if self.tiling is None else len(tile_rows(self.tiling, self.height))


@dataclass(frozen=True, slots=True)
class _Candidate:
    cut: Cut
    cost: CutCost

    @property
    def seconds(self) -> float:
        """Estimate for the ranking."""
        cost, far_rate = self.cost, BYTES_PER_SECOND[self.cut.caches]
        moved = cost.near_bytes_moved / BYTES_PER_SECOND[CachePlace.CARD] + cost.far_bytes_moved / far_rate
        return cost.flop / FLOP_PER_SECOND + moved + SECONDS_PER_STEP * self.cut.strips * self.cut.chunks


def plan(
    latent_shape: tuple[int, int, int],
    config: VideoVaeConfig,
    dtype: torch.dtype,
    settings: DecodeSettings,
    host_bytes_available: int | None = None,
    *,
    file_bytes_available: int = 0,
    one_memory: bool = False,
) -> DecodePlan:
    """The fastest cut for latents of `latent_shape` (T, h, w) that keeps to `settings` and to both memories.

    Caches go to files only where host memory cannot hold them and there are `file_bytes_available` on the disk.
    With `one_memory`, as on a CPU, what is planned for the card has to find room in host memory too.

    Raises EngineError(INVALID_SETTING) for a strip or chunk below one, EngineError(NO_PLAN_FITS) with the budget
    and the smallest budget that would do.
    """
    _check(settings, config.patch_size)
    if settings.mode is DecodeMode.REFERENCE:
        candidates = [_tiled(latent_shape, config, dtype, settings.tiling)]
    else:
        cuts = _cuts(latent_shape, config, settings)
        candidates = [_Candidate(cut, cut_cost(cut, latent_shape[2], config, dtype)) for cut in cuts]
    limits = MemoryLimits(settings.budget_bytes, host_bytes_available, one_memory)
    candidates = [c for c in candidates if c.cost.file_bytes <= file_bytes_available]
    fitting = [c for c in candidates if limits.fit(c.cost)]
    if not fitting:
        raise limits.refusal(c.cost for c in candidates)
    best = min(fitting, key=lambda c: (c.seconds, c.cost.peak_bytes))
    return _as_plan(best, latent_shape, config, dtype, settings)


def peak_in_smallest_strips(made: DecodePlan, latent_width: int, config: VideoVaeConfig, dtype: torch.dtype) -> int:
    """The least that `made` comes down to on the card when its strips are halved as often as they can be, in bytes."""
    if made.tiling is not None:
        return made.predicted_peak_bytes
    rows = min(made.strip_rows, SMALLEST_STRIP)
    cut = Cut(made.latent_frames, made.height, made.order, rows, made.chunk_latents, made.caches)
    return cut_cost(cut, latent_width, config, dtype).peak_bytes


def _check(settings: DecodeSettings, patch: int) -> None:
    rows, chunk = settings.strip_rows, settings.chunk_latents
    if rows is not None and (rows < patch or rows % patch):
        allowed = "1 or more" if patch == 1 else f"multiples of {patch}"
        raise EngineError(ErrorCode.INVALID_SETTING, name="strip_rows", value=rows, allowed=allowed)
    if chunk is not None and chunk < 1:
        raise EngineError(ErrorCode.INVALID_SETTING, name="chunk_latents", value=chunk, allowed="1 or more")


def _cuts(shape: tuple[int, int, int], config: VideoVaeConfig, settings: DecodeSettings) -> Iterator[Cut]:
    frames, latent_height, _ = shape
    height = latent_height * config.spatial_factor
    for rows in _strip_choices(height, settings):
        for order, caches in _order_choices(settings.mode, whole=rows >= height):
            for chunk in _chunk_choices(frames, settings):
                yield Cut(frames, height, order, min(rows, height), chunk, caches)


def _whole(frames: int, height: int) -> Cut:
    return Cut(frames, height, DecodeOrder.FRAME_MAJOR, height, 1, CachePlace.CARD)


def _tiled(
    shape: tuple[int, int, int], config: VideoVaeConfig, dtype: torch.dtype, tiling: ReferenceTiling
) -> _Candidate:
    """Overlapping tiles, every one decoded whole. Raises INVALID_SETTING."""
    frames, latent_height, _ = shape
    height = latent_height * config.spatial_factor
    cost = reference_cost(shape, config, dtype, tiling)
    rows = min(height, tiling.tile_height)
    return _Candidate(Cut(frames, height, DecodeOrder.FRAME_MAJOR, rows, 1, CachePlace.CARD), cost)


def _strip_choices(height: int, settings: DecodeSettings) -> tuple[int, ...]:
    if settings.mode is DecodeMode.WHOLE:
        return (height,)
    if settings.strip_rows is not None:
        return (settings.strip_rows,)
    return (*(rows for rows in STRIP_ROWS if rows < height), height)


def _chunk_choices(frames: int, settings: DecodeSettings) -> tuple[int, ...]:
    longest = max(1, frames - 1)
    if settings.chunk_latents is not None:
        return (min(settings.chunk_latents, longest),)
    return tuple(chunk for chunk in CHUNK_LATENTS if chunk <= longest)


def _order_choices(mode: DecodeMode, *, whole: bool) -> tuple[tuple[DecodeOrder, CachePlace], ...]:
    """Orders and where their far caches wait; strip-major rows never on the card, they grow with the clip."""
    frame_major = tuple((DecodeOrder.FRAME_MAJOR, place) for place in CachePlace)
    strip_major = tuple((DecodeOrder.STRIP_MAJOR, place) for place in CachePlace if place is not CachePlace.CARD)
    match mode:
        case DecodeMode.STRIP_MAJOR:
            return strip_major
        case DecodeMode.AUTOMATIC if not whole:
            return frame_major + strip_major
        case _:
            return frame_major


def _as_plan(
    best: _Candidate,
    shape: tuple[int, int, int],
    config: VideoVaeConfig,
    dtype: torch.dtype,
    settings: DecodeSettings,
) -> DecodePlan:
    cut = best.cut
    untiled = cut_cost(_whole(cut.latent_frames, cut.height), shape[2], config, dtype)
    return DecodePlan(
        **{field.name: getattr(cut, field.name) for field in fields(Cut)},
        latent_height=shape[1],
        tiling=settings.tiling if settings.mode is DecodeMode.REFERENCE else None,
        predicted_peak_bytes=best.cost.peak_bytes,
        host_bytes=best.cost.host_bytes,
        file_bytes=best.cost.file_bytes,
        budget_bytes=settings.budget_bytes,
        tflop=best.cost.flop / 1e12,
        ratio_to_untiled=best.cost.flop / untiled.flop,
    )
