"""What the streaming walks, decode and encode, do when memory runs out: a step is taken back, strips are halved.

Lives on the engine's thread.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import torch

from engine.decode.caches import Cache
from engine.decode.plan import SMALLEST_STRIP
from engine.decode.rows import LayerRows, Range
from engine.device import is_out_of_memory, release_memory

Made = TypeVar("Made")


class HasPasts(Protocol):
    """A layer on strips that keeps time caches."""

    def pasts(self, rows: tuple[LayerRows, ...], *, strips_outer: bool) -> tuple[tuple[str, Range], ...]:
        """Names and input rows of the time caches of a strip."""


def attempt(step: Callable[[], Made], caches: Sequence[Cache], strip: Range, device: torch.device) -> Made | None:
    """What `step` makes of `strip`; None when memory ran out, and then nothing has happened to the caches.

    Raises the error itself when strips cannot be made smaller. Grad mode is entered anew for every step: a generator
    must not hold the caller's.
    """
    try:
        with torch.no_grad():
            made = step()
    except Exception as error:
        for cache in caches:
            cache.roll_back()
        if not is_out_of_memory(error) or is_smallest(strip):
            raise
    else:
        for cache in caches:
            cache.commit()
        return made
    release_memory(device)  # only here has the failed step let go of its tensors
    return None


def is_smallest(strip: Range) -> bool:
    """Whether the strip is as small as strips get."""
    return strip[1] - strip[0] <= SMALLEST_STRIP


def halved(strip: Range, patch: int = 1) -> list[Range]:
    """A strip of whole patches in two, the larger half first; one that is as small as strips get stays whole."""
    if is_smallest(strip):
        return [strip]
    start, stop = strip
    patches = (stop - start) // patch
    middle = start + (patches + 1) // 2 * patch
    return [(start, middle), (middle, stop)]


def divide_pasts(
    time: Cache,
    layers: Iterable[HasPasts],
    rows_of: Callable[[Range], tuple[LayerRows, ...]],
    strip: Range,
    parts: list[Range],
    *,
    strips_outer: bool,
) -> None:
    """Share the time caches of `strip` out among its `parts`; `rows_of` gives the rows of every layer in a strip."""
    for layer in layers:
        pasts = layer.pasts(rows_of(strip), strips_outer=strips_outer)
        shares = zip(*(layer.pasts(rows_of(part), strips_outer=strips_outer) for part in parts), strict=True)
        for (name, rows), share in zip(pasts, shares, strict=True):
            keys = [((name, part[0]), part_rows) for part, (_, part_rows) in zip(parts, share, strict=True)]
            time.divide((name, strip[0]), rows, keys)
