"""Chooses how the decode is cut: the fastest plan inside a budget, or the smallest budget that would do. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.cost import CutCost, cut_cost
from engine.decode.cut import Cut, DecodeOrder
from engine.errors import EngineError, ErrorCode
from engine.models.video_vae import VideoVaeConfig

__all__ = ["DecodeOrder", "DecodePlan", "plan"]

STRIP_ROWS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
CHUNK_LATENTS = (1, 2, 4, 8)

# What the ranking of plans assumes of a card. Only the ratios matter: they say when larger steps are no longer
# worth their memory, and that caches on the card are cheap beside caches across the bus.
FLOP_PER_SECOND = 5e13
CARD_BYTES_PER_SECOND = 5e11
HOST_BYTES_PER_SECOND = 1.2e10
SECONDS_PER_STEP = 2e-3  # starting the kernels of all layers once


@dataclass(frozen=True, slots=True)
class DecodePlan(Cut):
    """A cut and what it costs. Bytes are live tensor bytes; the peak includes the decoder's weights.

    predicted_peak_bytes: on the card. host_bytes: what waits outside it, the stem's output and far caches.
    budget_bytes: what the peak was held to. tflop: of the whole decode. ratio_to_untiled: its operations over those
    of decoding whole.
    """

    latent_height: int
    predicted_peak_bytes: int
    host_bytes: int
    budget_bytes: int | None
    tflop: float
    ratio_to_untiled: float


@dataclass(frozen=True, slots=True)
class _Candidate:
    cut: Cut
    cost: CutCost

    @property
    def seconds(self) -> float:
        """Estimate for the ranking."""
        cost, far_rate = self.cost, HOST_BYTES_PER_SECOND if self.cut.caches_on_host else CARD_BYTES_PER_SECOND
        moved = cost.near_bytes_moved / CARD_BYTES_PER_SECOND + cost.far_bytes_moved / far_rate
        return cost.flop / FLOP_PER_SECOND + moved + SECONDS_PER_STEP * self.cut.strips * self.cut.chunks


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a plan has to stay below; None is no limit."""

    card_bytes: int | None
    host_bytes: int | None
    one_memory: bool

    def fits_card(self, cost: CutCost) -> bool:
        return self.card_bytes is None or cost.peak_bytes <= self.card_bytes

    def needed_on_host(self, cost: CutCost) -> int:
        return cost.host_bytes + (cost.peak_bytes if self.one_memory else 0)

    def fits_host(self, cost: CutCost) -> bool:
        return self.host_bytes is None or self.needed_on_host(cost) <= self.host_bytes


def plan(
    latent_shape: tuple[int, int, int],
    config: VideoVaeConfig,
    dtype: torch.dtype,
    settings: DecodeSettings,
    host_bytes_available: int | None = None,
    *,
    one_memory: bool = False,
) -> DecodePlan:
    """The fastest cut for latents of `latent_shape` (T, h, w) that keeps to `settings` and to both memories.

    With `one_memory`, as on a CPU, what is planned for the card has to find room in host memory too.

    Raises EngineError(INVALID_SETTING) for a strip or chunk below one, EngineError(NO_PLAN_FITS) with the budget
    and the smallest budget that would do.
    """
    _check(settings)
    cuts = _cuts(latent_shape, config, settings)
    candidates = [_Candidate(cut, cut_cost(cut, latent_shape[2], config, dtype)) for cut in cuts]
    limits = _Limits(settings.budget_bytes, host_bytes_available, one_memory)
    fitting = [c for c in candidates if limits.fits_card(c.cost) and limits.fits_host(c.cost)]
    if not fitting:
        raise _no_plan(candidates, limits)
    best = min(fitting, key=lambda c: (c.seconds, c.cost.peak_bytes))
    return _as_plan(best, latent_shape, config, dtype, settings.budget_bytes)


def _check(settings: DecodeSettings) -> None:
    for name, value in (("strip_rows", settings.strip_rows), ("chunk_latents", settings.chunk_latents)):
        if value is not None and value < 1:
            raise EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed="1 or more")


def _cuts(shape: tuple[int, int, int], config: VideoVaeConfig, settings: DecodeSettings) -> Iterator[Cut]:
    frames, latent_height, _ = shape
    height = latent_height * config.spatial_factor
    for rows in _strip_choices(height, settings):
        for order, on_host in _order_choices(settings.mode, whole=rows >= height):
            for chunk in _chunk_choices(frames, settings):
                yield Cut(frames, height, order, min(rows, height), chunk, on_host)


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


def _order_choices(mode: DecodeMode, *, whole: bool) -> tuple[tuple[DecodeOrder, bool], ...]:
    """Orders and whether their far caches wait in host memory; strip-major rows always do, they grow with the clip."""
    frame_major = ((DecodeOrder.FRAME_MAJOR, False), (DecodeOrder.FRAME_MAJOR, True))
    strip_major = ((DecodeOrder.STRIP_MAJOR, True),)
    match mode:
        case DecodeMode.STRIP_MAJOR:
            return strip_major
        case DecodeMode.AUTOMATIC if not whole:
            return frame_major + strip_major
        case _:
            return frame_major


def _no_plan(candidates: list[_Candidate], limits: _Limits) -> EngineError:
    """The error that names the smallest budget that would do, or what host memory is missing."""
    in_host = [c.cost.peak_bytes for c in candidates if limits.fits_host(c.cost)]
    if in_host and limits.card_bytes is not None:
        return EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=limits.card_bytes, smallest_bytes=min(in_host))
    smallest = min(limits.needed_on_host(c.cost) for c in candidates)
    return EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=limits.host_bytes or 0, smallest_bytes=smallest)


def _as_plan(
    best: _Candidate,
    shape: tuple[int, int, int],
    config: VideoVaeConfig,
    dtype: torch.dtype,
    budget_bytes: int | None,
) -> DecodePlan:
    cut = best.cut
    whole = Cut(cut.latent_frames, cut.height, DecodeOrder.FRAME_MAJOR, cut.height, 1, caches_on_host=False)
    untiled = cut_cost(whole, shape[2], config, dtype)
    return DecodePlan(
        **{field.name: getattr(cut, field.name) for field in fields(Cut)},
        latent_height=shape[1],
        predicted_peak_bytes=best.cost.peak_bytes,
        host_bytes=best.cost.host_bytes,
        budget_bytes=budget_bytes,
        tflop=best.cost.flop / 1e12,
        ratio_to_untiled=best.cost.flop / untiled.flop,
    )
