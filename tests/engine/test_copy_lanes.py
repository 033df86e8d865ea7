"""The order of copies and computing on a card, played by two queues that run in any order that events allow."""

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from engine.decode.room import room_on_host
from engine.memory.block_swap import BlockSwap
from engine.memory.copy_lanes import CardLane, Work

CPU = torch.device("cpu")


@dataclass(eq=False)
class PlayedEvent:
    """What a stream comes past."""

    card: "PlayedCard"
    is_past: bool = False

    def synchronize(self) -> None:
        while not self.is_past:
            self.card.run_one()


@dataclass(eq=False)
class PlayedStream:
    """Work in order; an event among it is recorded, or waited for."""

    card: "PlayedCard"
    work: deque[Work | PlayedEvent] = field(default_factory=deque)

    def record_event(self) -> PlayedEvent:
        event = PlayedEvent(self.card)

        def record() -> None:
            event.is_past = True

        self.work.append(record)
        return event

    def wait_event(self, event: PlayedEvent) -> None:
        self.work.append(event)

    def synchronize(self) -> None:
        self.record_event().synchronize()

    @property
    def can_go_on(self) -> bool:
        head = self.work[0] if self.work else None
        return head is not None and (head.is_past if isinstance(head, PlayedEvent) else True)


class PlayedCard:
    """Two streams; which of them goes on is drawn."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.computing, self.copying = PlayedStream(self), PlayedStream(self)
        self.current = self.computing
        self.trace: list[str] = []

    def run_one(self) -> None:
        able = [stream for stream in (self.computing, self.copying) if stream.can_go_on]
        assert able, "each stream waits for the other"
        work = self.random.choice(able).work.popleft()
        if not isinstance(work, PlayedEvent):
            work()

    def run_some(self) -> None:
        """The host is ahead by more or less."""
        while (self.computing.can_go_on or self.copying.can_go_on) and self.random.random() < 0.6:
            self.run_one()

    @contextmanager
    def on(self, stream: PlayedStream) -> Iterator[None]:
        before, self.current = self.current, stream
        yield
        self.current = before


class PlayedLane(CardLane):
    """The lane of a card, with copies that happen when their stream comes to them."""

    def __init__(self, card: PlayedCard) -> None:
        self.card = card
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "Stream", lambda device: card.copying)
            super().__init__(CPU)

    def start(self, slot: int, send: Work, gather: Work | None = None) -> None:
        def enqueue() -> None:
            assert self.card.current is self.card.copying
            self.card.trace.append(f"copy to {slot}")
            self.card.copying.work.append(send)

        super().start(slot, enqueue, gather)
        self.card.run_some()


@pytest.fixture(autouse=True)
def _played_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream.card.on(stream))


@contextmanager
def played(card: PlayedCard) -> Iterator[PlayedLane]:
    lane = PlayedLane(card)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "current_stream", lambda device: card.current)
        yield lane


class Numbered(nn.Module):
    """A block whose weight is its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.full((8,), number))


def compute(card: PlayedCard, block: nn.Module, number: int, seen: list[list[int]]) -> None:
    """Read the block's weight twice, when the card comes to it."""
    weight: Tensor = block.get_buffer("weight")
    card.trace.append(f"compute {number}")
    for _ in range(2):
        card.computing.work.append(lambda: seen.append([number, *weight.tolist()]))
    card.run_some()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 7),
    resident=st.integers(0, 7),
    walks=st.lists(st.integers(0, 7), min_size=1, max_size=5),
)
def test_no_block_computes_with_what_is_not_its_own(seed: int, count: int, resident: int, walks: list[int]) -> None:
    """Walks are left after so many blocks, and begun anew; in whatever order the card does its work."""
    card, seen = PlayedCard(seed), list[list[int]]()
    with played(card) as lane:
        blocks = [Numbered(i) for i in range(count)]
        swap = BlockSwap(blocks, CPU, resident, room_on_host, lane=lane)
        for length in walks:
            for number, block in enumerate(swap.walk()):
                if number == length:
                    break
                compute(card, block, number, seen)
        card.computing.synchronize()
        swap.close()
    assert len(seen) == 2 * sum(min(length, count) for length in walks)
    assert all(weight == [number] * 8 for number, *weight in seen)


def test_each_copy_is_given_to_the_card_before_the_block_before_it_is() -> None:
    """So that a card which is never waited for has both at hand."""
    card, seen = PlayedCard(0), list[list[int]]()
    with played(card) as lane:
        swap = BlockSwap([Numbered(i) for i in range(5)], CPU, 0, room_on_host, lane=lane)
        for _ in range(2):
            for number, block in enumerate(swap.walk()):
                compute(card, block, number, seen)
        swap.close()
    for turn in range(9):
        computes = [i for i, said in enumerate(card.trace) if said.startswith("compute")]
        copies = [i for i, said in enumerate(card.trace) if said.startswith("copy")]
        assert copies[turn + 1] < computes[turn]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), turns=st.integers(1, 12))
def test_what_is_gathered_waits_for_the_copy_before_it(seed: int, turns: int) -> None:
    card, seen = PlayedCard(seed), list[list[int]]()
    stages, slots = ([torch.zeros(4, dtype=torch.long) for _ in range(2)] for _ in range(2))
    with played(card) as lane:

        def start(turn: int) -> None:
            slot, stage = slots[turn % 2], stages[turn % 2]
            lane.start(turn % 2, _copy(slot, stage), _fill(stage, turn))

        for turn in range(min(2, turns)):
            start(turn)
        for turn in range(turns):
            lane.arrive(turn % 2)
            card.computing.work.append(_read(slots[turn % 2], turn, seen))
            lane.leave(turn % 2)
            if turn + 2 < turns:
                start(turn + 2)
        card.computing.synchronize()
        lane.close()
    assert seen == [[turn] * 5 for turn in range(turns)]


def _copy(slot: Tensor, stage: Tensor) -> Work:
    return lambda: _ignored(slot.copy_(stage))


def _fill(stage: Tensor, turn: int) -> Work:
    return lambda: _ignored(stage.fill_(turn))


def _read(slot: Tensor, turn: int, seen: list[list[int]]) -> Callable[[], None]:
    return lambda: seen.append([turn, *slot.tolist()])


def _ignored(_: object) -> None:
    pass
