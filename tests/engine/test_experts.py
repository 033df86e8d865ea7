"""One transformer at a time: loaded at its step, the second read ahead, and fewer blocks where all find no room."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from engine.attention.attend import sdpa
from engine.denoise.experts import Experts, Switch
from engine.denoise.plan import SMALLEST_CHUNK, SamplingPlan, plan_sampling
from engine.generation import SamplingSettings
from engine.weights.card import NetworkBytes
from engine.weights.provenance import Expert
from tests.engine.tiny_model import TRANSFORMER


def plan(chunk_tokens: int) -> SamplingPlan:
    network = NetworkBytes(1000, (10 << 20,) * 8, 0)
    settings = SamplingSettings(resident_blocks=8, chunk_tokens=chunk_tokens)
    return plan_sampling(TRANSFORMER, (9, 64, 64), torch.float32, network, settings, None)


class Loader:
    """Notes what is loaded, and fails where there is no room for as many blocks."""

    def __init__(self, room: int = 100) -> None:
        self.loaded: list[tuple[Expert | None, int]] = []
        self.open = 0
        self._room = room

    def __call__(self, expert: Expert | None, resident: int) -> Any:  # noqa: ANN401 (as much of `Swapped` as is used)
        self.loaded.append((expert, resident))
        if resident > self._room:
            raise torch.OutOfMemoryError
        assert self.open == 0, "two at a time"
        self.open += 1
        return SimpleNamespace(network=None, swap=SimpleNamespace(walk=None, close=self.close))

    def close(self) -> None:
        self.open -= 1


def test_the_second_is_read_ahead_in_the_last_step_of_the_first(tmp_path: Path) -> None:
    (tmp_path / "low.safetensors").write_bytes(bytes(1000))
    loader = Loader()
    experts = Experts(loader, sdpa, plan(256), Switch(2), files_of_second=[tmp_path / "low.safetensors"])
    experts.at(0)
    assert experts._ahead.bytes_read == 0
    experts.at(1)
    end = time.monotonic() + 20
    while experts._ahead.bytes_read < 1000 and time.monotonic() < end:
        time.sleep(0.01)
    assert experts._ahead.bytes_read == 1000
    experts.at(2)
    experts.at(3)
    assert [expert for expert, _ in loader.loaded] == [Expert.HIGH_NOISE, Expert.LOW_NOISE]
    experts.close()
    assert loader.open == 0


def test_what_finds_no_room_to_load_is_loaded_with_fewer_blocks_at_once() -> None:
    """Pieces are nothing to it, so that none is made smaller in vain: every try reads the whole transformer."""
    loader = Loader(room=2)
    experts = Experts(loader, sdpa, plan(8192), None)
    while True:
        try:
            experts.at(0)
            break
        except torch.OutOfMemoryError:
            assert experts.make_smaller()
    assert [resident for _, resident in loader.loaded] == [8, 4, 2]
    experts.close()


def test_in_the_end_nothing_gets_smaller() -> None:
    experts = Experts(Loader(room=-1), sdpa, plan(SMALLEST_CHUNK), None)
    sizes = []
    while experts.make_smaller():
        sizes.append(experts.plan.resident_blocks)
    assert sizes == sorted(set(sizes), reverse=True)
    assert sizes[-1] == 0
