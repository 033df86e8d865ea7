"""What the streaming decoder keeps between its steps, and where. Lives on the engine's thread.

Every cache is an excerpt of a layer's input. The loop over strips and chunks has an inner axis, whose caches are
read back one step later (near: on the card), and an outer axis, whose caches wait for a whole inner loop (far: on
the card, in host memory that the card can reach directly, or in files).

A step either happens or it does not: what it stores counts from `commit` on. A step that runs out of memory half-way
is taken back, and the decode goes on from the state before it, cut smaller.
"""

from collections.abc import Iterable

from torch import Tensor

from engine.decode.room import Room, room_on_card
from engine.decode.rows import Range

# A layer and what of it, with the place along the other axis: a chunk, or the output row that a strip starts at.
CacheKey = tuple[str, int]


class Cache:
    """Excerpts by key; storing copies, so no excerpt holds the buffer it was taken from."""

    def __init__(self, room: Room = room_on_card) -> None:
        self._room = room
        self._entries: dict[CacheKey, Tensor] = {}
        self._pending: dict[CacheKey, Tensor | None] = {}  # None: the entry goes
        self._spare: list[Tensor] = []  # memory of entries that the last step replaced

    def store(self, key: CacheKey, value: Tensor, *, last: bool = False) -> None:
        """Keep a copy of `value` from the next `commit` on.

        An excerpt that is empty, or the `last` along its axis, will never be asked for: the entry is dropped.
        """
        if last or not value.numel():
            self._pending[key] = None
            return
        self._pending[key] = self._copy_of(value)

    def fetch(self, key: CacheKey, into: Tensor) -> None:
        """Copy the entry into `into`, a view of the buffer that needs it; zeros before anything was stored."""
        kept = self._entries.get(key)
        if kept is None:
            into.zero_()
        else:
            into.copy_(kept, non_blocking=True)

    def commit(self) -> None:
        """What was stored since the last commit replaces the entries before it."""
        replaced = [self._entries.pop(key, None) for key in self._pending]
        # On the card torch's allocator keeps freed blocks; pages of the host or of a file are dear to make.
        self._spare = [] if self._room is room_on_card else [old for old in replaced if old is not None]
        self._entries |= {key: value for key, value in self._pending.items() if value is not None}
        self._pending = {}

    def roll_back(self) -> None:
        """Forget what was stored since the last commit."""
        self._pending = {}

    def clear(self) -> None:
        """Forget everything."""
        self._entries, self._pending, self._spare = {}, {}, []

    def divide(self, key: CacheKey, rows: Range, parts: Iterable[tuple[CacheKey, Range]]) -> None:
        """Replace the entry `key`, which holds the input `rows`, by excerpts of it with rows of their own."""
        whole = self._entries.pop(key, None)
        if whole is None:
            return
        for part, (start, stop) in parts:
            if stop > start:
                self._entries[part] = self._copy_of(whole[:, :, :, start - rows[0] : stop - rows[0]])

    def _copy_of(self, value: Tensor) -> Tensor:
        if self._spare and self._spare[0].shape == value.shape:
            copy = self._spare.pop(0)
        else:
            self._spare = []
            copy = self._room(tuple(value.shape), value.dtype, value.device)
        copy.copy_(value, non_blocking=True)
        return copy
