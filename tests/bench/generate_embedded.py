"""The embedded transformer on a CPU, run every way in turn: time, memory, difference, and what the formula said."""

import copy
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from engine.denoise.cost import Sampling, SamplingCost, sampling_cost
from engine.memory.simulate import LiveStorages
from engine.memory.simulate_sampling import network_bytes_of
from engine.models.transformer import WanTransformer
from tests.bench.decode_rounds import note
from tests.bench.generate_lane import CopyTimes
from tests.bench.generate_step import PASSES, Inputs, apart, inputs_of, latent_size, take_step
from tests.bench.generate_ways import CPU, PLAIN, WAYS, Built, Cut, build, cut_of

HOST = "cpu"


@dataclass(slots=True)
class Measured:
    """One way: how it is cut (None is plain), live bytes at most, its result, and seconds a step in every round."""

    built: Built
    cut: Cut | None
    counted_bytes: int
    velocity: Tensor
    seconds: list[float] = field(default_factory=list)


def measure_embedded(
    network: WanTransformer, pixels: tuple[int, int, int], wanted: Cut, repeats: int
) -> dict[str, Any]:
    """Every way through the same step `repeats` times, one after the other in each round."""
    size = latent_size(pixels)
    inputs = inputs_of(network.config, size, torch.float32, CPU)
    sampling = Sampling(network.config, size, torch.float32, network_bytes_of(network), passes=PASSES)
    measured = {name: counted(network, inputs, cut) for name, cut in cuts_of(sampling, wanted).items()}
    for number in range(1, repeats + 1):
        for name, way in measured.items():
            way.seconds.append(timed(way.built, inputs))
            note(f"round {number} of {repeats}, {name}: {way.seconds[-1]:.3f} s")
    ways = {name: report_of(name, measured, sampling, repeats) for name in measured}
    for way in measured.values():
        way.built.close()
    case = dict(zip(("width", "height", "frames"), pixels, strict=True))
    return {"case": {**case, "tokens": sampling.tokens, "blocks": sampling.blocks, "repeats": repeats}, "ways": ways}


def cuts_of(sampling: Sampling, wanted: Cut) -> dict[str, Cut | None]:
    """How each way is cut; None is plain."""
    cuts = {name: cut_of(way, sampling.blocks, sampling.tokens, wanted) for name, way in WAYS.items()}
    return {name: None if name == PLAIN else cut for name, cut in cuts.items()}


def counted(network: WanTransformer, inputs: Inputs, cut: Cut | None) -> Measured:
    """Build a way with weights of its own and take its first step; those, the inputs and all else are counted."""
    storages, own = LiveStorages(), copy.deepcopy(network)
    with torch.no_grad(), storages:
        for tensor in (*inputs.tensors, *own.parameters(), *own.buffers()):
            storages.follow(tensor)
        built = build(own, cut)
        storages.peak = dict(storages.live)  # what packing the blocks took is over
        velocity = take_step(built.predict, inputs)
    if built.lane is not None:
        built.lane.forget()
    return Measured(built, cut, storages.peak[HOST], velocity)


def timed(built: Built, inputs: Inputs) -> float:
    """Seconds of a step."""
    began = time.perf_counter()
    take_step(built.predict, inputs)
    return time.perf_counter() - began


def report_of(name: str, measured: dict[str, Measured], sampling: Sampling, repeats: int) -> dict[str, Any]:
    """One way's figures; ratios are of seconds, to the plain network of the same run.

    Card and host are one memory here, so that blocks that wait are counted and predicted with the rest.
    """
    way, plain, twin = measured[name], measured[PLAIN], WAYS[name].twin
    cost = None if way.cut is None else sampling_cost(sampling, way.cut.resident_blocks, way.cut.chunk_tokens)
    off = apart(way.velocity, plain.velocity)
    return {
        "resident_blocks": sampling.blocks if way.cut is None else way.cut.resident_blocks,
        "chunk_tokens": None if way.cut is None else way.cut.chunk_tokens,
        "seconds": way.seconds,
        "median_seconds": median(way.seconds),
        "ratio": median(way.seconds) / median(plain.seconds),
        "ratio_in_pairs": median(own / other for own, other in zip(way.seconds, plain.seconds, strict=True)),
        "counted_bytes": way.counted_bytes,
        "predicted_bytes": None if cost is None else predicted_bytes(cost),
        "largest_difference": off.largest,
        "relative_difference": off.relative,
        "twin": twin,
        "is_twin": None if twin is None else torch.equal(way.velocity, measured[twin].velocity),
        **copies_of(None if way.built.lane is None else way.built.lane.times(), repeats),
    }


def predicted_bytes(cost: SamplingCost) -> int:
    """What the formula says of card and host together."""
    return cost.peak_bytes + cost.host_bytes


def copies_of(times: CopyTimes | None, steps: int) -> dict[str, float | None]:
    """Seconds of copies a step, and the share of them that ran while the device computed."""
    if times is None or not times.copying:
        return {"copying_seconds": None, "hidden_share": None}
    return {"copying_seconds": times.copying / steps, "hidden_share": times.hidden_share}
