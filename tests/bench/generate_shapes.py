"""Networks of the true shapes on a card, cut as the planner cuts them for each budget, and `diffusers` beside them.

One after the other: two of the larger ones would not be in host memory together. Before a step is timed every cut has
taken one of a still, which is soon done and leaves the card's libraries as they will be.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.attention.attend import sdpa
from engine.decode.room import room_on_host
from engine.denoise.plan import SamplingPlan, plan_sampling
from engine.denoise.streaming import Denoiser
from engine.device import free_host_bytes, is_out_of_memory, release_memory
from engine.errors import EngineError
from engine.generation import SamplingSettings
from engine.memory.block_swap import BlockSwap
from engine.memory.hold import held_to
from engine.models.rope import Grid
from engine.models.transformer import TransformerConfig
from tests.bench.decode_rounds import note
from tests.bench.generate_embedded import copies_of
from tests.bench.generate_lane import TimedLane
from tests.bench.generate_networks import BF16, DTYPE, MODELS, bytes_of, network_without_blocks
from tests.bench.generate_peer import PEERS, build_peer, free_leftovers
from tests.bench.generate_step import Predict, apart, inputs_of, latent_size, take_step

GIB = 2**30
ENOUGH_SECONDS = 20.0  # of timed steps of one cut: one that takes longer is not taken again
OUT_OF_MEMORY = "out of memory"


@dataclass(frozen=True, slots=True)
class Case:
    """What is sampled. pixels: (width, height, frames); budgets: in GiB; repeats: timed steps of a cut at most.

    host_bytes: of host memory that plans may use; what earlier cuts left page-locked for the next one counts as free.
    """

    model: str
    form: str
    pixels: tuple[int, int, int]
    budgets: tuple[float, ...]
    repeats: int
    device: torch.device
    host_bytes: int

    @property
    def config(self) -> TransformerConfig:
        """Of the network."""
        return MODELS[self.model]

    @property
    def size(self) -> Grid:
        """Latent frames, rows and columns."""
        return latent_size(self.pixels)

    @property
    def said(self) -> dict[str, Any]:
        """What every figure belongs to."""
        width, height, frames = self.pixels
        return {"model": self.model, "form": self.form, "clip": f"{width}x{height}x{frames}"}


@dataclass(frozen=True, slots=True)
class Timed:
    """Steps that were taken: seconds of each, the allocator's highest bytes, the velocity in host memory."""

    seconds: list[float]
    peaks: dict[str, int | None]
    velocity: Tensor


class Results:
    """Velocities of one network and clip, to compare the others with."""

    def __init__(self) -> None:
        self._first: Tensor | None = None
        self._by_chunk: dict[int, Tensor] = {}

    def compared(self, velocity: Tensor, chunk_tokens: int | None) -> dict[str, Any]:
        """How far it is from the first, and whether it is the first in pieces of that many tokens to the bit."""
        first = self._first = velocity if self._first is None else self._first
        off = apart(velocity, first)
        is_same = None
        if chunk_tokens in self._by_chunk:
            is_same = torch.equal(velocity, self._by_chunk[chunk_tokens])
        elif chunk_tokens is not None:
            self._by_chunk[chunk_tokens] = velocity
        return {"largest_difference": off.largest, "relative_difference": off.relative, "is_same": is_same}


def measure_case(case: Case, *, with_peers: bool) -> Iterator[dict[str, Any]]:
    """The figures of every budget, then those of `diffusers`, which has no such eight-bit weights."""
    free_leftovers(case.device)
    results = Results()
    plans: dict[tuple[int, int], float] = {}
    for budget in case.budgets:
        yield {**case.said, "way": "planned", "budget_gib": budget, **of_budget(case, budget, plans, results)}
    for name, is_offloaded in PEERS.items() if with_peers and case.form == BF16 else ():
        yield {**case.said, "way": name, **of_peer(case, results, is_offloaded=is_offloaded)}


def of_budget(case: Case, budget: float, plans: dict[tuple[int, int], float], results: Results) -> dict[str, Any]:
    """Measure the cut of a budget in GiB, or say which smaller budget has the same."""
    try:
        plan = planned(case, int(budget * GIB))
    except EngineError as error:
        return {"left_out": f"{error.code}: {int(error.details['smallest_bytes']) / GIB:.2f} GiB at least"}
    cut = plan.resident_blocks, plan.chunk_tokens
    said = {
        "resident_blocks": plan.resident_blocks,
        "blocks": plan.blocks,
        "chunk_tokens": plan.chunk_tokens,
        "tokens": plan.tokens,
        "predicted_peak_bytes": plan.predicted_peak_bytes,
        "host_bytes": plan.host_bytes,
        "copied_bytes": plan.copied_bytes,
        "tflop": plan.tflop,
    }
    if cut in plans:
        return {**said, "same_as_gib": plans[cut]}
    plans[cut] = budget
    note(f"{case.said}, {budget} GiB: {plan.resident_blocks} of {plan.blocks} blocks, {plan.chunk_tokens} tokens")
    return {**said, **guarded(case, lambda: run_planned(case, plan, results))}


def planned(case: Case, budget_bytes: int) -> SamplingPlan:
    """As a job here would be planned in `budget_bytes`. Raises NO_PLAN_FITS."""
    network, settings = bytes_of(case.model, case.form), SamplingSettings()
    return plan_sampling(case.config, case.size, DTYPE, network, settings, budget_bytes, case.host_bytes)


def run_planned(case: Case, plan: SamplingPlan, results: Results) -> dict[str, Any]:
    """Build the network as `plan` says, take steps, held to the budget where the device can be, and time them."""
    ground = allocated(case.device)
    network, load = network_without_blocks(case.config, case.form, case.device)
    lane = TimedLane(case.device)
    blocks = list(network.blocks)
    swap = BlockSwap(blocks, case.device, plan.resident_blocks, room_on_host, load=load, lane=lane)
    try:
        predict = Denoiser(network, swap.walk, plan.chunk_tokens, sdpa).velocity
        held = None if plan.budget_bytes is None else ground + plan.budget_bytes
        timed, kept = stepped_within(case, predict, held, lane.forget)
        found = results.compared(timed.velocity, plan.chunk_tokens)
        return {**figures(timed, ground), "kept_budget": kept, **found, **copies_of(lane.times(), len(timed.seconds))}
    finally:
        swap.close()


def stepped_within(
    case: Case, predict: Predict, held: int | None, forget: Callable[[], None]
) -> tuple[Timed, bool | None]:
    """Steps with at most `held` bytes on the card; where that is too little, again without, and False."""
    try:
        with held_to(case.device, held):
            return stepped(case, predict, forget), None if case.device.type != "cuda" else True
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    note("out of memory within the budget; again without")
    return stepped(case, predict, forget), False


def of_peer(case: Case, results: Results, *, is_offloaded: bool) -> dict[str, Any]:
    """Measure `diffusers`."""
    free_leftovers(case.device)
    note(f"{case.said}, diffusers, offloaded: {is_offloaded}")
    # While they are page-locked, weights are there twice.
    if is_offloaded and 2 * bytes_of(case.model, case.form).total > free_host_bytes():
        return {"left_out": f"{OUT_OF_MEMORY} on the host"}

    def run() -> dict[str, Any]:
        ground = allocated(case.device)
        timed = stepped(case, build_peer(case.config, case.device, is_offloaded=is_offloaded))
        return {**figures(timed, ground), **results.compared(timed.velocity, None)}

    found = guarded(case, run)
    free_leftovers(case.device)
    return found


def guarded(case: Case, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `run` finds, or why it found nothing; either way its tensors are gone."""
    try:
        return run()
    except ImportError as error:
        return {"left_out": str(error)}
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return {"left_out": OUT_OF_MEMORY}
    finally:
        gc.collect()
        release_memory(case.device)


def stepped(case: Case, predict: Predict, begin: Callable[[], None] = lambda: None) -> Timed:
    """Take a step of a still, call `begin`, then take the clip's step until it has been timed often enough."""
    take_step(predict, inputs_of(case.config, (1, *case.size[1:]), DTYPE, case.device))
    inputs = inputs_of(case.config, case.size, DTYPE, case.device)
    wait_for(case.device)
    release_memory(case.device)
    if case.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(case.device)
    begin()
    seconds: list[float] = []
    while not seconds or (len(seconds) < case.repeats and sum(seconds) < ENOUGH_SECONDS):
        began = time.perf_counter()
        velocity = take_step(predict, inputs)
        wait_for(case.device)
        seconds.append(time.perf_counter() - began)
        note(f"  {seconds[-1]:.2f} s")
    return Timed(seconds, peaks_of(case.device), velocity.cpu())


def figures(timed: Timed, ground: int) -> dict[str, Any]:
    """Seconds, and highest bytes beyond what others hold on the card."""
    peaks = {name: None if peak is None else peak - ground for name, peak in timed.peaks.items()}
    return {"seconds": timed.seconds, **peaks}


def peaks_of(device: torch.device) -> dict[str, int | None]:
    """The allocator's maxima; a CPU has no such allocator."""
    if device.type != "cuda":
        return {"allocated_bytes": None, "reserved_bytes": None}
    return {
        "allocated_bytes": torch.cuda.max_memory_allocated(device),
        "reserved_bytes": torch.cuda.max_memory_reserved(device),
    }


def allocated(device: torch.device) -> int:
    """Bytes that live on the card now."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def wait_for(device: torch.device) -> None:
    """Until everything that was given to the card is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
