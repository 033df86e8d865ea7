"""What a plan has to stay below, on the card and in host memory, and the refusal where none does. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from engine.errors import EngineError, ErrorCode


class Cost(Protocol):
    """What a plan takes: bytes of live tensors on the card at most, and bytes that wait outside it."""

    @property
    def peak_bytes(self) -> int: ...

    @property
    def host_bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """None is no limit. one_memory: the card has no memory of its own, as a CPU, so that both sides share one."""

    card_bytes: int | None
    host_bytes: int | None
    one_memory: bool

    def fit(self, cost: Cost) -> bool:
        """Whether there is room on both sides."""
        return (self.card_bytes is None or cost.peak_bytes <= self.card_bytes) and self.fit_host(cost)

    def fit_host(self, cost: Cost) -> bool:
        """Whether host memory has room."""
        return self.host_bytes is None or self._needed_on_host(cost) <= self.host_bytes

    def refusal(self, costs: Iterable[Cost]) -> EngineError:
        """NO_PLAN_FITS with the smallest budget that would do for one of `costs`, or what host memory is missing."""
        tried = list(costs)
        in_host = [cost.peak_bytes for cost in tried if self.fit_host(cost)]
        if in_host and self.card_bytes is not None:
            return EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=self.card_bytes, smallest_bytes=min(in_host))
        smallest = min(map(self._needed_on_host, tried))
        return EngineError(ErrorCode.NO_PLAN_FITS, budget_bytes=self.host_bytes or 0, smallest_bytes=smallest)

    def _needed_on_host(self, cost: Cost) -> int:
        return cost.host_bytes + (cost.peak_bytes if self.one_memory else 0)
