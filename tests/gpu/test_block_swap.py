"""Blocks that come to a card from page-locked and from other memory while it computes."""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from engine.decode.room import Room, room_on_host
from engine.memory.block_swap import BlockSwap, swapped_peak

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")

COUNT, WIDTH = 8, 2048


def room_of_pages(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Host memory that is not page-locked."""
    return torch.empty(shape, dtype=dtype)


def blocks() -> list[nn.Module]:
    torch.manual_seed(0)
    dtypes = (torch.bfloat16, torch.float32)
    made = [(nn.Linear(WIDTH, WIDTH, dtype=dtypes[i % 2]), nn.LayerNorm(WIDTH)) for i in range(COUNT)]
    return [nn.Sequential(*layers).requires_grad_(False) for layers in made]


def passed(walk: Iterable[nn.Module], x: Tensor) -> Tensor:
    for block in walk:
        linear, norm = block.children()
        x = x + norm(linear(x.to(linear.get_parameter("weight").dtype)).float())
    return x


@pytest.mark.parametrize("room", [room_on_host, room_of_pages], ids=["page-locked", "pages"])
@pytest.mark.parametrize("resident", [0, 1, 4, 7, 8])
def test_the_result_is_the_same_to_the_bit(resident: int, room: Room) -> None:
    device = torch.device("cuda")
    x = torch.randn(4096, WIDTH, device=device)
    expected = passed([block.to(device) for block in blocks()], x)
    swap = BlockSwap(blocks(), device, resident, room)
    for is_inference in (True, False, True):
        with torch.inference_mode(is_inference):
            assert torch.equal(passed(swap.walk(), x), expected)
    swap.close()


@pytest.mark.parametrize("resident", [0, 3, 6])
def test_what_blocks_take(resident: int) -> None:
    device, made = torch.device("cuda"), blocks()
    sizes = [sum(p.nbytes for p in block.parameters()) for block in made]
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    swap = BlockSwap(made, device, resident, room_on_host)
    for _ in range(2):
        for _block in swap.walk():
            pass
    torch.cuda.synchronize(device)
    taken = torch.cuda.max_memory_allocated(device) - before
    swap.close()
    assert 0.95 * swapped_peak(sizes, resident) <= taken <= swapped_peak(sizes, resident) + (2 << 20)


def test_copies_run_while_the_card_computes() -> None:
    """A pass with copies takes little longer than the longer of the two; in turn, it would take both."""
    device = torch.device("cuda")
    x = torch.randn(WIDTH, WIDTH, device=device)

    def seconds(swap: BlockSwap, products: int) -> float:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        began.record()
        for block in swap.walk():
            weight = next(block.parameters()).float()
            for _ in range(products):
                torch.mm(x, weight)
        ended.record()
        torch.cuda.synchronize()
        return began.elapsed_time(ended)

    swapped, resident = BlockSwap(blocks(), device, 0, room_on_host), BlockSwap(blocks(), device, COUNT, room_on_host)
    for swap in (swapped, resident):
        seconds(swap, 8)
    copying = min(seconds(swapped, 0) for _ in range(5))
    computing, products = 0.0, 1
    while computing < copying:
        products *= 2
        computing = min(seconds(resident, products) for _ in range(3))
    both = min(seconds(swapped, products) for _ in range(5))
    swapped.close()
    resident.close()
    assert both < computing + 0.5 * copying


def test_a_walk_that_is_left_half_way_can_be_begun_again() -> None:
    device = torch.device("cuda")
    x = torch.randn(64, WIDTH, device=device)
    swap = BlockSwap(blocks(), device, 2, room_on_host)
    expected = passed(swap.walk(), x)
    for left_after in range(COUNT):
        walk = swap.walk()
        for _ in range(left_after + 1):
            next(walk)
        assert torch.equal(passed(swap.walk(), x), expected)
    swap.close()
