"""Blocks of a network that wait in host memory and come to the device when it is their turn. Engine's thread.

Two slots on the device take the blocks in turn: while one computes, the next that is not resident is copied into the
other. After the last block of a pass the first of the next pass are on their way already.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from engine.decode.room import Room, room_on_host
from engine.memory.copy_lanes import Lane, lane_to
from engine.memory.packed_block import PackedBlock, move_block

SLOTS = 2  # one that is computed with, one that is copied into
SLOT_PADDING_BYTES = 64 << 10  # at most, between the tensors of a block


def swapped_blocks(count: int, resident: int) -> list[int]:
    """Which of `count` blocks are swapped: spread evenly, so that each copy has as much time as the others."""
    swapped = count - min(max(resident, 0), count)
    return [i for i in range(count) if (i + 1) * swapped // count > i * swapped // count]


def swapped_peak(block_bytes: Sequence[int], resident: int) -> int:
    """The most bytes on the device that blocks with tensors of `block_bytes` each take, `resident` of them for good."""
    swapped = swapped_blocks(len(block_bytes), resident)
    slot = max((block_bytes[i] + SLOT_PADDING_BYTES for i in swapped), default=0)
    return sum(block_bytes) - sum(block_bytes[i] for i in swapped) + min(SLOTS, len(swapped)) * slot


class BlockSwap:
    """Walks over `blocks`; the result of a pass is that of unswapped blocks to the bit.

    Between walks the tensors of swapped blocks are in host memory. `close` it, also after a failure.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        device: torch.device,
        resident: int,
        room: Room,
        *,
        load: Callable[[int], None] = lambda _: None,
        lane: Lane | None = None,
    ) -> None:
        """`resident` blocks go to `device` and stay there; the others go to `room`, one after the other.

        Blocks that lie in a mapped file stay there unless `room` is `room_on_host` for a card. Swapped blocks may have
        their tensors anywhere before. load: gives block i its tensors, called before it goes where it belongs. lane:
        where copies run, None for the one that suits the device. Raises what `room` and `load` raise, and torch's
        errors when memory runs out.
        """
        self._blocks = list(blocks)
        self._device = device
        with torch.inference_mode(False):  # what is made here is written to in either mode
            self._swapped = self._packed(resident, room, load)
            size = max((packed.size for packed in self._swapped.values()), default=0)
            slots = min(SLOTS, len(self._swapped))
            self._slots = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(slots)]
            is_page_locked = all(packed.is_page_locked for packed in self._swapped.values())
            self._stages = [] if is_page_locked or device.type != "cuda" else _stages(slots, size, device)
        self._order = list(self._swapped.values())
        self._holds: list[int | None] = [None] * slots
        self._lent: tuple[PackedBlock, int] | None = None
        self._lane: Lane | None = None
        if slots:
            self._lane = lane_to(device, is_page_locked=is_page_locked) if lane is None else lane
            for slot in range(slots):
                self._lane.leave(slot)  # of whatever had this memory before

    @property
    def is_swapping(self) -> bool:
        """Whether any block is not resident."""
        return bool(self._swapped)

    def walk(self) -> Generator[nn.Module, None, None]:
        """Every block in order, its tensors on the device until the next is asked for or the walk ends.

        A walk that was left half-way is over when the next begins. Raises what copying raises.
        """
        self._take_back()
        slot = self._fetch_first()
        place = 0
        for index, block in enumerate(self._blocks):
            if index not in self._swapped:
                yield block
                continue
            self._lend(place, slot)
            lent = self._lent
            try:
                yield block
            finally:
                if self._lent is lent:
                    self._take_back()
            self._fetch((place + SLOTS) % len(self._order), slot)
            place, slot = place + 1, (slot + 1) % len(self._slots)

    def close(self) -> None:
        """Wait for copies and let go of the slots; swapped blocks are in host memory, and not to be walked any more."""
        self._take_back()
        if self._lane is not None:
            self._lane.close()
        for packed in self._order:
            packed.forget_slots()
        self._lane, self._slots, self._stages = None, [], []

    def _packed(self, resident: int, room: Room, load: Callable[[int], None]) -> dict[int, PackedBlock]:
        swapped = set(swapped_blocks(len(self._blocks), resident))
        packed = {}
        for index, block in enumerate(self._blocks):
            load(index)
            if index in swapped:
                packed[index] = PackedBlock(block, room, self._device)
            else:
                move_block(block, self._device)
        return packed

    def _fetch_first(self) -> int:
        """Begin with the copies of the first blocks that are not there; the slot of the very first."""
        first = int(self._holds[1:] == [0] or self._holds[:1] == [1])
        for place in range(len(self._slots)):
            self._fetch(place, (first + place) % len(self._slots))
        return first

    def _fetch(self, place: int, slot: int) -> None:
        """Begin to copy the swapped block `place` into `slot`, unless it is there."""
        if self._holds[slot] == place:
            return
        assert self._lane is not None, "closed"
        packed, target = self._order[place], self._slots[slot]
        self._holds[slot] = place
        if self._stages and not packed.is_page_locked:
            stage = self._stages[slot]
            self._lane.start(slot, partial(_send, stage, target, packed.size), partial(packed.copy_to, stage))
        else:
            self._lane.start(slot, partial(packed.copy_to, target))

    def _lend(self, place: int, slot: int) -> None:
        assert self._lane is not None, "closed"
        try:
            self._lane.arrive(slot)
        except BaseException:
            self._holds[slot] = None
            raise
        packed = self._order[place]
        packed.lend(slot, self._slots[slot])
        self._lent = packed, slot

    def _take_back(self) -> None:
        if self._lent is None or self._lane is None:
            return
        (packed, slot), self._lent = self._lent, None
        packed.take_back()
        self._lane.leave(slot)


def _send(stage: Tensor, target: Tensor, size: int) -> None:
    target[:size].copy_(stage[:size], non_blocking=True)


def _stages(count: int, size: int, device: torch.device) -> list[Tensor]:
    """Page-locked memory for what is read from files, a piece a slot; none where the system has none."""
    try:
        return [room_on_host((size,), torch.uint8, device) for _ in range(count)]
    except RuntimeError:
        return []
