"""The tensors of one block of a network, laid out in one piece of memory that is copied in one go. Engine's thread.

Parameters and buffers of any dtype lie behind each other as bytes. While a block runs they are views of such a piece
on the device; otherwise they are what they were loaded as, views of a piece in host memory, or of a mapped file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.decode.room import Room, room_on_host

# Of every tensor's first byte: kernels choose by alignment how they load, and must choose as in unswapped memory.
ALIGNMENT = 256

Owner = dict[str, Tensor | None]  # what a module keeps its parameters or its buffers in


@dataclass(frozen=True, slots=True)
class _Place:
    """A tensor of a block: who has it under which name, what it is in host memory, and where in the piece it lies."""

    owner: Owner
    name: str
    host: Tensor
    start: int

    def within(self, piece: Tensor) -> Tensor:
        """The tensor as a view of `piece`."""
        part = piece[self.start : self.start + self.host.nbytes]
        view = part.view(self.host.dtype).view(self.host.shape)
        return nn.Parameter(view, requires_grad=False) if isinstance(self.host, nn.Parameter) else view


class PackedBlock:
    """A block whose tensors are in host memory, and can be lent views of a slot."""

    def __init__(self, block: nn.Module, room: Room, device: torch.device) -> None:
        """What does not lie in a file already, or could be copied to `device` faster, goes into one piece of `room`."""
        self.block = block
        self._places, self.size = _laid_out(block)
        self._piece = None if _stays(self._places, room, device) else self._packed(room, device)
        self._lent: dict[int, list[Tensor]] = {}

    @property
    def is_page_locked(self) -> bool:
        """Whether a card copies the block without the help of a thread."""
        return self._piece is not None and self._piece.is_pinned()

    def copy_to(self, slot: Tensor) -> None:
        """Copy all tensors into `slot`, at least `size` bytes."""
        if self._piece is not None:
            slot[: self.size].copy_(self._piece, non_blocking=True)
            return
        for place in self._places:
            place.within(slot).copy_(place.host.detach(), non_blocking=True)

    def lend(self, number: int, slot: Tensor) -> None:
        """Let the block compute with what was copied into `slot`; `number` tells slots apart."""
        if number not in self._lent:
            self._lent[number] = [place.within(slot) for place in self._places]
        for place, tensor in zip(self._places, self._lent[number], strict=True):
            place.owner[place.name] = tensor

    def take_back(self) -> None:
        """Give the block its tensors in host memory again."""
        for place in self._places:
            place.owner[place.name] = place.host

    def forget_slots(self) -> None:
        """Hold no slot any more."""
        self._lent = {}

    def _packed(self, room: Room, device: torch.device) -> Tensor | None:
        """All tensors in one piece, which the block has from now on; None where they stay as they are in host memory.

        A system page-locks only so much, and a slower copy is better than none.
        """
        try:
            piece = room((self.size,), torch.uint8, device)
        except (RuntimeError, MemoryError):
            if room is not room_on_host:
                raise
            if all(place.host.device.type == "cpu" for place in self._places):
                return None
            piece = torch.empty(self.size, dtype=torch.uint8)
        for number, place in enumerate(self._places):
            view = place.within(piece)
            view.copy_(place.host.detach())
            place.owner[place.name] = view
            self._places[number] = _Place(place.owner, place.name, view, place.start)
        return piece


def move_block(block: nn.Module, device: torch.device) -> None:
    """Bring every tensor of `block` to `device`; one that is there stays the very same."""
    for place in _laid_out(block)[0]:
        if place.host.device != device:
            moved = place.host.detach().to(device)
            is_parameter = isinstance(place.host, nn.Parameter)
            place.owner[place.name] = nn.Parameter(moved, requires_grad=False) if is_parameter else moved


def _laid_out(block: nn.Module) -> tuple[list[_Place], int]:
    """The tensors of `block` with their places, and the bytes of the piece that they make."""
    places, end = [], 0
    for module in block.modules():
        for owner in (module._parameters, module._buffers):
            for name, tensor in owner.items():
                if tensor is not None:
                    places.append(_Place(owner, name, tensor, end))  # type: ignore[arg-type]
                    end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return places, end


def _stays(places: list[_Place], room: Room, device: torch.device) -> bool:
    """Whether the tensors stay in the file that they are mapped from: only page-locked memory would be faster."""
    is_faster = room is room_on_host and device.type == "cuda"
    return not is_faster and all(place.host.device.type == "cpu" and _is_mapped(place.host) for place in places)


def _is_mapped(tensor: Tensor) -> bool:
    """Whether the memory belongs to somebody else than torch's allocator, which no other memory here does."""
    return not tensor.untyped_storage().resizable()
