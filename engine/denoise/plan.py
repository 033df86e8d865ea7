"""Chooses how sampling is cut: the fastest plan inside a budget, or the smallest budget that would do. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from engine.denoise.cost import Sampling, SamplingCost, block_values, sampling_cost
from engine.errors import EngineError, ErrorCode
from engine.events import SamplingFigures
from engine.generation import SamplingSettings
from engine.memory.limits import MemoryLimits
from engine.models.rope import Grid
from engine.models.transformer import TransformerConfig
from engine.weights.card import NetworkBytes
from engine.weights.dequantize import BYTES_A_VALUE

# Larger pieces gain nothing that a clock would show; below the smallest the stream itself is what takes memory, and
# starting the kernels of a piece takes longer than running them.
CHUNK_TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384)
SMALLEST_CHUNK = CHUNK_TOKENS[0]

# What the ranking of plans assumes of a card. Only the ratios matter: they say when blocks can be swapped behind the
# computing, and when larger pieces are no longer worth their memory.
FLOP_PER_SECOND = 5e13
CARD_BYTES_PER_SECOND = 5e11
COPIED_BYTES_PER_SECOND = 1.2e10
SECONDS_A_PIECE = 4e-4  # starting the kernels of a block for one piece
COPY_DRAG = 0.02  # of a copy's time, lost although the card computes meanwhile


@dataclass(frozen=True, slots=True)
class SamplingPlan:
    """One way to cut sampling and what it takes. Bytes are live tensor bytes; the peak includes all weights.

    smallest_bytes: the peak of the smallest cut that `smaller` comes down to. host_bytes: blocks that wait outside the
    card. copied_bytes, tflop: of one step. budget_bytes: what the peak was held to. fewest_resident: blocks that stay
    on the card at least, since host memory has no room for them.
    """

    sampling: Sampling
    resident_blocks: int
    chunk_tokens: int
    predicted_peak_bytes: int
    smallest_bytes: int
    host_bytes: int
    copied_bytes: int
    tflop: float
    budget_bytes: int | None
    fewest_resident: int

    @property
    def tokens(self) -> int:
        """Video tokens of a clip."""
        return self.sampling.tokens

    @property
    def blocks(self) -> int:
        """Blocks of the network."""
        return self.sampling.blocks


@dataclass(frozen=True, slots=True)
class _Candidate:
    sampling: Sampling
    resident_blocks: int
    chunk_tokens: int
    cost: SamplingCost

    @property
    def seconds(self) -> float:
        """Estimate of one step for the ranking: copies run behind the computing for as long as that takes."""
        sampling = self.sampling
        pieces = -(-sampling.tokens // self.chunk_tokens) * sampling.passes * sampling.blocks
        widened = BYTES_A_VALUE * block_values(sampling.config) if sampling.network.work else 0
        a_piece = SECONDS_A_PIECE + widened / CARD_BYTES_PER_SECOND
        computing = self.cost.flop / FLOP_PER_SECOND + a_piece * pieces
        copying = self.cost.copied_bytes / COPIED_BYTES_PER_SECOND
        return max(computing, copying) + COPY_DRAG * copying


def plan_sampling(
    config: TransformerConfig,
    latent_size: Grid,
    dtype: torch.dtype,
    network: NetworkBytes,
    settings: SamplingSettings,
    budget_bytes: int | None,
    host_bytes_available: int | None = None,
    *,
    guided: bool = True,
    image_tokens: int = 0,
    runs: int = 1,
    beside_bytes: int = 0,
    one_memory: bool = False,
) -> SamplingPlan:
    """The fastest cut for latents of `latent_size` (T, h, w) that keeps to `settings` and to both memories.

    guided: whether a step has a second pass, for the negative prompt. image_tokens: of the image branch. runs: of
    tokens that share a time. beside_bytes: what else is on the card while sampling. With `one_memory`, as on a CPU,
    swapping saves nothing, so that blocks wait only where the settings say so.

    Raises EngineError(INVALID_SETTING) for blocks that there are not and pieces below one token,
    EngineError(NO_PLAN_FITS) with the budget and the smallest budget that would do.
    """
    _check(settings, len(network.blocks))
    is_joint = guided and settings.joint_guidance
    sampling = Sampling(
        config, latent_size, dtype, network, settings.attention,
        batch=2 if is_joint else 1, passes=2 if guided and not is_joint else 1, image_tokens=image_tokens, runs=runs,
        step_cache=settings.step_cache > 0, beside_bytes=beside_bytes,
    )  # fmt: skip
    limits = MemoryLimits(budget_bytes, host_bytes_available, one_memory)
    candidates = list(_candidates(sampling, settings, one_memory=one_memory))
    fitting = [c for c in candidates if limits.fit(c.cost)]
    if not fitting:
        raise limits.refusal(c.cost for c in candidates)
    best = min(fitting, key=lambda c: (c.seconds, c.cost.peak_bytes))
    return _as_plan(best, limits)


def smaller(plan: SamplingPlan) -> SamplingPlan | None:
    """What to go on with after memory ran out: smaller pieces, then fewer resident blocks; None when nothing is left.

    Each takes less of the card than the one before, whatever budget that one was made for.
    """
    for resident, chunk in _cuts_below(plan):
        cost = sampling_cost(plan.sampling, resident, chunk)
        if cost.peak_bytes < plan.predicted_peak_bytes:
            return replace(
                plan, resident_blocks=resident, chunk_tokens=chunk, predicted_peak_bytes=cost.peak_bytes,
                host_bytes=cost.host_bytes, copied_bytes=cost.copied_bytes,
            )  # fmt: skip
    return None


def figures(plan: SamplingPlan, seconds: float | None = None) -> SamplingFigures:
    """`plan` as it is told; `seconds` of one step where somebody has measured them."""
    return SamplingFigures(
        plan.resident_blocks,
        plan.blocks,
        plan.chunk_tokens,
        plan.tokens,
        plan.host_bytes,
        plan.copied_bytes,
        plan.tflop,
        seconds,
    )


def _check(settings: SamplingSettings, blocks: int) -> None:
    resident, chunk = settings.resident_blocks, settings.chunk_tokens
    if resident is not None and not 0 <= resident <= blocks:
        allowed = f"0 - {blocks}"
        raise EngineError(ErrorCode.INVALID_SETTING, name="resident_blocks", value=resident, allowed=allowed)
    if chunk is not None and chunk < 1:
        raise EngineError(ErrorCode.INVALID_SETTING, name="chunk_tokens", value=chunk, allowed="1 or more")


def _candidates(sampling: Sampling, settings: SamplingSettings, *, one_memory: bool) -> Iterator[_Candidate]:
    stated = settings.resident_blocks
    fewest = sampling.blocks if one_memory else 0
    residents = range(fewest, sampling.blocks + 1) if stated is None else (stated,)
    for chunk in _chunk_choices(sampling.tokens, settings.chunk_tokens):
        for resident in residents:
            yield _Candidate(sampling, resident, chunk, sampling_cost(sampling, resident, chunk))


def _chunk_choices(tokens: int, stated: int | None) -> tuple[int, ...]:
    if stated is not None:
        return (min(stated, tokens),)
    return tuple(sorted({min(chunk, tokens) for chunk in CHUNK_TOKENS}))


def _cuts_below(plan: SamplingPlan) -> Iterator[tuple[int, int]]:
    """Resident blocks and tokens of a piece, in the order in which they are given up."""
    resident, chunk = plan.resident_blocks, plan.chunk_tokens
    while chunk > SMALLEST_CHUNK:
        chunk = max(SMALLEST_CHUNK, chunk // 2)
        yield resident, chunk
    while resident > plan.fewest_resident:
        resident = max(plan.fewest_resident, resident // 2)
        yield resident, chunk


def _as_plan(best: _Candidate, limits: MemoryLimits) -> SamplingPlan:
    made = SamplingPlan(
        best.sampling,
        best.resident_blocks,
        best.chunk_tokens,
        predicted_peak_bytes=best.cost.peak_bytes,
        smallest_bytes=best.cost.peak_bytes,
        host_bytes=best.cost.host_bytes,
        copied_bytes=best.cost.copied_bytes,
        tflop=best.cost.flop / 1e12,
        budget_bytes=limits.card_bytes,
        fewest_resident=_fewest_resident(best, limits),
    )
    last = made
    while (following := smaller(last)) is not None:
        last = following
    return replace(made, smallest_bytes=last.predicted_peak_bytes)


def _fewest_resident(best: _Candidate, limits: MemoryLimits) -> int:
    """The fewest blocks on the card, of as many as `best` has at most, with which the others have room outside it."""
    if limits.one_memory:
        return best.resident_blocks
    costs = (sampling_cost(best.sampling, count, best.chunk_tokens) for count in range(best.resident_blocks))
    return next((count for count, cost in enumerate(costs) if limits.fit_host(cost)), best.resident_blocks)
