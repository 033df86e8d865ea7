"""What is measured of a decoder: seconds, bytes, operations, how far its picture is off, where the time goes."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from engine.decode.plan import DecodePlan
from engine.decode.streaming import DecodedBlock
from engine.device import free_host_bytes, release_memory
from engine.memory.simulate import CARD, HOST, LiveStorages
from tests.bench.decode_case import Case, Network, Shape, empty_state
from tests.bench.decode_peers import Built, Decoder

PEAK_TO_PEAK = 2.0  # of a picture in -1..1


@dataclass(frozen=True, slots=True)
class Counted:
    """Highest live bytes, weights included, and operations of a decode without values."""

    card_bytes: int
    host_bytes: int
    tflop: float


@dataclass(frozen=True, slots=True)
class OnCard:
    """Highest bytes that the allocator gave out, and that it took from the driver; the decoder's weights included."""

    allocated_bytes: int
    reserved_bytes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Of a clamped picture from the exact one; `psnr` is None where they are equal."""

    largest: float
    mean: float
    psnr: float | None


@dataclass(frozen=True, slots=True)
class DeviceTime:
    """Milliseconds of a decode in convolutions and in all else."""

    convolution_ms: float
    other_ms: float

    @property
    def convolution_share(self) -> float:
        """Of the whole time."""
        return self.convolution_ms / (self.convolution_ms + self.other_ms)


def picture_of(built: Built, case: Case) -> Tensor:
    """Decode the case to a picture [3, F, H, W] in host memory, in the dtype of the weights."""
    picture = torch.empty(case.exact.shape, dtype=case.network.dtype)
    with torch.no_grad():
        for block in built.blocks(case.latents):
            _, frames, rows, _ = block.rgb.shape
            in_time = slice(block.frame_start, block.frame_start + frames)
            picture[:, in_time, block.row_start : block.row_start + rows].copy_(block.rgb)
    return picture


def timed(built: Built, case: Case) -> tuple[float, Tensor]:
    """Seconds from latents to the picture in host memory; nothing of it is still under way on a card."""
    began = time.perf_counter()
    picture = picture_of(built, case)
    return time.perf_counter() - began, picture


def count(decoder: Decoder, network: Network, shape: Shape, plan: DecodePlan | None) -> Counted:
    """Decode latents of `shape` without values, the card played by a pretended one."""
    storages, counter = (
        LiveStorages(),
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: product_flop}),
    )
    with FakeTensorMode():
        pretended = Network(network.config, empty_state(network.config, network.dtype))
        latents = torch.empty(1, network.config.z_dim, *shape, device=HOST)
        built = decoder.build(pretended, plan)
        with torch.no_grad(), counter, storages:
            for weight in (*built.weights, latents):
                storages.follow(weight)
            consume(built.blocks(latents))
    return Counted(storages.peak[CARD], storages.peak[HOST], counter.get_total_flops() / 1e12)


def product_flop(_: torch.Size, left: torch.Size, right: torch.Size, **__: object) -> int:
    """Operations of a product that is added in place, of the shapes torch's counter does not know itself."""
    return 2 * left.numel() * right[-1]


def consume(blocks: Iterable[DecodedBlock]) -> None:
    """Hold every block while the next one is made, as whoever shows or writes it does."""
    for block in blocks:
        held = block.rgb
    del held


def on_card(built: Built, case: Case) -> tuple[Tensor, OnCard]:
    """The picture and the allocator's peaks on a CUDA card; other decoders' weights there are not counted."""
    device = case.network.device
    release_memory(device)
    torch.cuda.reset_peak_memory_stats(device)
    others = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    picture = picture_of(built, case)
    peaks = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    weights = sum(weight.nbytes for weight in built.weights)
    return picture, OnCard(*(peak - before + weights for peak, before in zip(peaks, others, strict=True)))


def difference(picture: Tensor, exact: Tensor) -> Difference:
    """How far `picture`, clamped, is from `exact`."""
    off = picture.float().clamp_(-1, 1).sub_(exact).abs_()
    mean_square = off.double().square_().mean().item()
    psnr = 10 * math.log10(PEAK_TO_PEAK**2 / mean_square) if mean_square else None
    return Difference(off.max().item(), off.mean().item(), psnr)


def device_time(run: Callable[[], object], device: torch.device) -> DeviceTime:
    """Where the time of one run goes, of kernels on a card, of operators on a CPU.

    Kernels belong to the operator that started them, so that what a convolution's library does to layouts is
    convolution; kernels that torch.compile wrote go by their name.
    """
    is_cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]) as profiler:
        run()
    operators, kernels = 0.0, 0.0
    convolution = 0.0
    for event in profiler.key_averages():
        on_host = event.device_type == DeviceType.CPU
        spent = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        if on_host:
            operators += spent
        elif not event.is_user_annotation:
            kernels += spent
        if "conv" in event.key and (on_host or event.key.startswith("triton_")):
            convolution += spent
    total = kernels if is_cuda else operators
    return DeviceTime(convolution / 1e3, (total - convolution) / 1e3)


def free_bytes_on(device: torch.device) -> int:
    """Memory that nobody uses on `device` now: the card's, or the system's for a CPU."""
    if device.type != "cuda":
        return free_host_bytes()
    release_memory(device)
    return torch.cuda.mem_get_info(device)[0]
