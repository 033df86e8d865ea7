"""Blocks that wait in host memory: the result is that of unswapped ones to the bit, and no copy is in the way."""

import dataclasses
import threading
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.decode.room import Room, RoomInFiles, room_on_host
from engine.memory.block_swap import BlockSwap, swapped_blocks, swapped_peak
from engine.memory.copy_lanes import SerialLane, ThreadLane, Work
from engine.memory.packed_block import move_block
from engine.memory.simulate import LiveStorages
from engine.models.float32_islands import keeps_float32
from engine.models.rope import rope_table
from engine.models.transformer import WanTransformer
from engine.weights.lora.apply import ActiveLora, apply_loras
from engine.weights.lora.file import parse_lora
from engine.weights.lora.runtime import LoraLinear
from engine.weights.mapped_file import MappedFile
from engine.weights.place import ignore
from engine.weights.source import QuantFormat
from tests.engine.lora_cases import checkpoint_of, tensors_of
from tests.engine.quantize_network import quantize_network
from tests.engine.tiny_model import TRANSFORMER

CPU, CARD = torch.device("cpu"), torch.device("meta")
COUNT = 5
WAIT_SECONDS = 20
FORMS = {"float32": None, "fp8": QuantFormat.FP8_E4M3, "fp4": QuantFormat.NVFP4}


def transformer(form: str, *, with_lora: bool = False) -> WanTransformer:
    """Five blocks with float32 islands among bfloat16, or quantised layers, some with changes beside them."""
    torch.manual_seed(0)
    network = WanTransformer(dataclasses.replace(TRANSFORMER, num_layers=COUNT)).requires_grad_(False).eval()
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    to = FORMS.get(form)
    if to is not None:
        quantize_network(network, to)
    if form == "islands":
        for name, parameter in network.named_parameters():
            parameter.data = parameter if keeps_float32(name) else parameter.bfloat16()
    if with_lora:
        changes = tensors_of("lora", "blocks.1.ffn.0", shapes["blocks.1.ffn.0.weight"])
        changes |= tensors_of("loha", "blocks.4.self_attn.q", shapes["blocks.4.self_attn.q.weight"])
        active = ActiveLora(parse_lora(checkpoint_of(changes), shapes), 0.5)
        apply_loras(network, [active], torch.float32, ignore)
    return network


def passed(blocks: Iterable[nn.Module], dtype: torch.dtype = torch.float32) -> Tensor:
    """What comes out of the blocks, always for the same input."""
    torch.manual_seed(1)
    x, time = torch.randn(1, 8, TRANSFORMER.dim), torch.randn(1, 1, 6, TRANSFORMER.dim)
    text = torch.randn(1, 4, TRANSFORMER.dim).to(dtype)
    rope = rope_table((2, 2, 2), TRANSFORMER.head_dim, CPU)
    for block in blocks:
        x = block(x, text, None, time, rope)
    return x


@pytest.fixture(params=["host memory", "files"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    if request.param == "host memory":
        yield room_on_host
        return
    files = RoomInFiles(tmp_path)
    yield files
    files.close()


@pytest.mark.parametrize("resident", [0, 1, 3, 4, 5])
@pytest.mark.parametrize(
    ("form", "with_lora"),
    [("float32", False), ("islands", False), ("fp8", False), ("fp4", False), ("fp4", True)],
)
def test_the_result_is_the_same_to_the_bit(form: str, with_lora: bool, resident: int, room: Room) -> None:
    network = transformer(form, with_lora=with_lora)
    assert any(isinstance(layer, LoraLinear) for layer in network.modules()) is with_lora
    dtype = torch.bfloat16 if form == "islands" else torch.float32
    expected = passed(network.blocks, dtype)
    swap = BlockSwap(list(network.blocks), CPU, resident, room)
    for is_inference in (True, False, True):
        with torch.inference_mode(is_inference):
            assert torch.equal(passed(swap.walk(), dtype), expected)
    swap.close()
    assert torch.equal(passed(network.blocks, dtype), expected)


def test_blocks_can_be_packed_and_walked_in_inference_mode() -> None:
    with torch.inference_mode():
        network = transformer("fp8", with_lora=True)
        expected = passed(network.blocks)
        swap = BlockSwap(list(network.blocks), CPU, 0, room_on_host)
        assert torch.equal(passed(swap.walk()), expected)
    assert torch.equal(passed(swap.walk()), expected)
    swap.close()


def test_swapped_blocks_are_spread_evenly() -> None:
    assert swapped_blocks(40, 40) == swapped_blocks(40, 99) == []
    assert swapped_blocks(40, 0) == list(range(40))
    for count in range(1, 41):
        for resident in range(count + 1):
            swapped = swapped_blocks(count, resident)
            assert len(swapped) == count - resident
            around = [*swapped, *(index + count for index in swapped)]
            gaps = [after - before for before, after in pairwise(around)]
            assert not swapped or max(gaps) - min(gaps) <= 1


class Linears(nn.Module):
    """A block whose tensors tell it from others."""

    def __init__(self, number: int, size: int = 64) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((size,), float(number)), requires_grad=False)
        self.narrow: Tensor
        self.scalar: Tensor
        self.register_buffer("narrow", torch.full((3,), number, dtype=torch.bfloat16))
        self.register_buffer("scalar", torch.tensor(number, dtype=torch.uint8), persistent=False)
        self.register_buffer("nothing", None)
        self.register_buffer("empty", torch.empty(0))

    def number(self) -> int:
        """What all tensors say."""
        values = {float(value) for tensor in (self.weight, self.narrow, self.scalar) for value in tensor.flatten()}
        assert len(values) == 1
        return int(values.pop())


def numbers(walk: Iterable[nn.Module]) -> list[int]:
    return [block.number() for block in walk if isinstance(block, Linears)]


@pytest.mark.parametrize("resident", range(COUNT + 1))
@pytest.mark.parametrize("left_after", range(COUNT))
def test_a_walk_that_is_left_half_way_can_be_begun_again(left_after: int, resident: int) -> None:
    """As after an exception, which keeps the walk alive for as long as its traceback is looked at."""
    blocks = [Linears(i) for i in range(COUNT)]
    swap = BlockSwap(blocks, CPU, resident, room_on_host)
    host = weights(blocks)
    for _ in range(3):
        walk = swap.walk()
        for _ in range(left_after + 1):
            next(walk)
        assert numbers(swap.walk()) == list(range(COUNT))
        assert all(map(Tensor.is_set_to, host, weights(blocks)))
        walk.close()  # what is left of it changes nothing
        assert numbers(swap.walk()) == list(range(COUNT))
    swap.close()


def weights(blocks: Iterable[Linears]) -> list[Tensor]:
    return [block.weight for block in blocks]


def test_an_exception_that_leaves_the_walk_leaves_the_blocks_in_host_memory() -> None:
    blocks = [Linears(i) for i in range(COUNT)]
    swap = BlockSwap(blocks, CPU, 0, room_on_host)
    host = weights(blocks)

    def fail() -> None:
        for block in swap.walk():
            if block is blocks[2]:
                assert block.weight is not host[2]
                raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    swap.close()
    assert all(one is other for one, other in zip(weights(blocks), host, strict=True))
    assert numbers(blocks) == list(range(COUNT))


class WatchedLane(SerialLane):
    """Tells what was copied, and copies nothing before it is let."""

    def __init__(self) -> None:
        self.copied: list[int] = []
        self.may_copy = threading.Semaphore(0)

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        assert self.may_copy.acquire(timeout=WAIT_SECONDS)
        super().start(slot, send, gather)
        self.copied.append(slot)


def test_a_copy_runs_while_the_block_before_it_computes() -> None:
    """Were they in turn, the block would wait for ever for a copy that waits for the block."""
    blocks = [Linears(i) for i in range(COUNT)]
    lane = WatchedLane()
    threads = ThreadLane(lane)
    swap = BlockSwap(blocks, CPU, 0, room_on_host, lane=threads)
    lane.may_copy.release()
    for turn in range(2 * COUNT):
        if turn % COUNT == 0:
            walk = swap.walk()
        next(walk)
        assert len(lane.copied) == turn + 1
        lane.may_copy.release()  # of the next block, while this one computes
        for _ in range(1000):
            if len(lane.copied) == turn + 2:
                break
            threading.Event().wait(0.01)
        assert len(lane.copied) == turn + 2
    lane.may_copy.release(2)
    swap.close()


def test_after_a_pass_the_first_block_of_the_next_is_there() -> None:
    lane = WatchedLane()
    lane.may_copy.release(100)
    swap = BlockSwap([Linears(i) for i in range(COUNT)], CPU, 0, room_on_host, lane=lane)
    assert numbers(swap.walk()) == list(range(COUNT))
    assert len(lane.copied) == COUNT + 2
    next(swap.walk())
    assert len(lane.copied) == COUNT + 2


@pytest.mark.parametrize("swapped", [1, 2])
def test_as_many_blocks_as_slots_are_copied_once(swapped: int) -> None:
    lane = WatchedLane()
    lane.may_copy.release(100)
    swap = BlockSwap([Linears(i) for i in range(COUNT)], CPU, COUNT - swapped, room_on_host, lane=lane)
    for _ in range(3):
        assert numbers(swap.walk()) == list(range(COUNT))
    assert len(lane.copied) == swapped


class BrokenLane(SerialLane):
    """Fails at one copy."""

    def __init__(self, at: int) -> None:
        self.left = at

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        self.left -= 1
        if self.left < 0 and self.left > -2:
            raise OSError("unplugged")
        super().start(slot, send, gather)


@pytest.mark.parametrize("at", range(8))
def test_a_copy_that_fails_is_told_and_made_again(at: int) -> None:
    swap = BlockSwap([Linears(i) for i in range(COUNT)], CPU, 0, room_on_host, lane=ThreadLane(BrokenLane(at)))

    def pass_thrice() -> None:
        for _ in range(3):
            assert numbers(swap.walk()) == list(range(COUNT))

    with pytest.raises(OSError, match="unplugged"):
        pass_thrice()
    for _ in range(3):
        assert numbers(swap.walk()) == list(range(COUNT))
    swap.close()


@pytest.mark.parametrize("has_files", [False, True])
def test_blocks_of_a_mapped_file_stay_there(tmp_path: Path, has_files: bool) -> None:
    """Copies of them would only fill the host's memory, or the disk once more."""
    file = tmp_path / "values.bin"
    file.write_bytes(bytes(range(256)) * 4 * COUNT)
    mapped = MappedFile(file)
    blocks = [nn.Linear(16, 16, bias=False) for _ in range(COUNT)]
    for i, block in enumerate(blocks):
        stored = mapped.values(torch.float32, 1024 * i, 1024).view(16, 16)
        block.weight = nn.Parameter(stored, requires_grad=False)
    before = [block.weight for block in blocks]
    kept = [weight.clone().view(torch.uint8) for weight in before]
    folder = tmp_path / "room"
    folder.mkdir()
    swap = BlockSwap(blocks, CPU, 0, RoomInFiles(folder) if has_files else room_on_host)
    assert all(block.weight is weight for block, weight in zip(blocks, before, strict=True))
    assert not [*folder.iterdir()]
    for _ in range(2):
        seen = [block.weight.clone().view(torch.uint8) for block in swap.walk() if isinstance(block, nn.Linear)]
        assert all(map(torch.equal, seen, kept))
    swap.close()


def test_a_system_that_page_locks_no_memory_costs_speed_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(shape: object, dtype: object, device: object) -> Tensor:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr("engine.memory.packed_block.room_on_host", refused)
    swap = BlockSwap([Linears(i) for i in range(COUNT)], CPU, 1, refused)
    assert numbers(swap.walk()) == list(range(COUNT))
    swap.close()


def test_without_page_locked_memory_no_swapped_block_stays_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may be before, as what was quantised there, and would take the memory that the plan gave to others."""

    def refused(shape: object, dtype: object, device: object) -> Tensor:
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr("engine.memory.packed_block.room_on_host", refused)
    storages = LiveStorages()
    with FakeTensorMode(), storages:
        blocks = [Linears(i, size=1 << 16) for i in range(COUNT)]
        for block in blocks[1:]:
            move_block(block, CARD)
        blocks[1].narrow = blocks[0].narrow  # some of its tensors there, one here
        swap = BlockSwap(blocks, CARD, 0, refused)
        for _ in range(2):
            assert {tensor.device for block in blocks for tensor in tensors_in(block)} == {CPU}
            assert storages.live["meta"] <= 2 * ((4 << 16) + (64 << 10))  # the slots
            for walked in swap.walk():
                assert {tensor.device for tensor in tensors_in(walked)} == {CARD}
        swap.close()


def tensors_in(block: nn.Module) -> list[Tensor]:
    return [*block.parameters(), *block.buffers()]


def test_a_full_disk_is_told() -> None:
    def full(shape: object, dtype: object, device: object) -> Tensor:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        BlockSwap([Linears(i) for i in range(COUNT)], CPU, 1, full)


@pytest.mark.parametrize("resident", range(COUNT + 1))
@pytest.mark.parametrize("form", ["islands", "float32"])
def test_what_blocks_take_on_a_card_without_values(form: str, resident: int) -> None:
    """Never more than foretold, and no more than the padding of the slots below it; all copies go to the card."""
    storages = LiveStorages()
    with FakeTensorMode(), torch.no_grad():
        network = transformer(form)
        sizes = [sum(p.nbytes for p in block.parameters()) for block in network.blocks]
        with storages:
            swap = BlockSwap(list(network.blocks), CARD, resident, room_on_host)
            for _ in range(2):
                for block in swap.walk():
                    assert {parameter.device.type for parameter in block.parameters()} == {"meta"}
            swapped = [block for i, block in enumerate(network.blocks) if i in swapped_blocks(COUNT, resident)]
            assert all(p.device.type == "cpu" for block in swapped for p in block.parameters())
            swap.close()
    foretold = swapped_peak(sizes, resident)
    assert foretold - 2 * (64 << 10) <= storages.peak.get("meta", 0) <= foretold
    host = sum(sizes[i] for i in swapped_blocks(COUNT, resident))
    assert host <= storages.peak.get("cpu", 0) <= host + COUNT * (64 << 10)


def test_packing_holds_one_block_twice_and_no_more() -> None:
    storages = LiveStorages()
    with storages:
        blocks = [Linears(i, size=1 << 16) for i in range(COUNT)]
        swap = BlockSwap(blocks, CPU, 0, room_on_host)
        block = 4 << 16
        assert storages.live["cpu"] <= (COUNT + 2) * block + (64 << 10)
        assert storages.peak["cpu"] <= (COUNT + 2) * block + (64 << 10)
        swap.close()
        assert storages.live["cpu"] <= COUNT * block + (64 << 10)
