"""Ways to run the embedded transformer on a CPU: plain, and as `Denoiser` streams it, in pieces, swapped, or both."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from engine.attention.attend import sdpa
from engine.decode.room import room_on_host
from engine.denoise.streaming import Denoiser
from engine.memory.block_swap import BlockSwap
from engine.models.transformer import WanTransformer
from tests.bench.generate_lane import TimedLane
from tests.bench.generate_step import Predict

CPU = torch.device("cpu")
PLAIN = "plain"


@dataclass(frozen=True, slots=True)
class Way:
    """How a network is run. twin: the unswapped way that a swapped one has to be equal to, to the bit."""

    is_chunked: bool = False
    is_swapped: bool = False
    twin: str | None = None


WAYS = {
    PLAIN: Way(),
    "streamed": Way(),
    "chunked": Way(is_chunked=True),
    "swapped": Way(is_swapped=True, twin="streamed"),
    "swapped, chunked": Way(is_chunked=True, is_swapped=True, twin="chunked"),
}


@dataclass(frozen=True, slots=True)
class Cut:
    """How far a streamed way is cut."""

    resident_blocks: int
    chunk_tokens: int


@dataclass(frozen=True, slots=True)
class Built:
    """A way with weights of its own. lane: of a swapped one."""

    predict: Predict
    lane: TimedLane | None
    close: Callable[[], None]


def cut_of(way: Way, blocks: int, tokens: int, wanted: Cut) -> Cut:
    """What of `wanted` the way takes over."""
    return Cut(wanted.resident_blocks if way.is_swapped else blocks, wanted.chunk_tokens if way.is_chunked else tokens)


def build(network: WanTransformer, cut: Cut | None) -> Built:
    """`network`, run as `cut` says from now on; None is plain."""
    if cut is None:
        return Built(network, None, lambda: None)
    is_swapped = cut.resident_blocks < len(network.blocks)
    lane = TimedLane(CPU) if is_swapped else None
    swap = BlockSwap(list(network.blocks), CPU, cut.resident_blocks, room_on_host, lane=lane)
    return Built(Denoiser(network, swap.walk, cut.chunk_tokens, sdpa).velocity, lane, swap.close)
