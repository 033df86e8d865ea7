"""Memory that runs out in the middle of sampling: the job goes on in smaller pieces, or ends with what it has."""

import dataclasses
import gc
import random
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import engine.prepare
from engine.commands import ContinueVideo, GenerateVideo
from engine.denoise.block_pieces import BlockInPieces
from engine.errors import ErrorCode
from engine.events import JobFinished, SamplingKept, SamplingRecut, Stage
from engine.generation import SamplingSettings
from engine.job_plan import Limits
from engine.weights.load_swapped import load_swapped_transformer
from tests.engine.job_run import Run, assert_failed
from tests.engine.plain_road import off
from tests.engine.road_run import embedded_command, finished, job_folder_of, latents_in

STEPS, TOKENS, BLOCKS, SMALLEST = 6, 18, 6, 4
RECUTS = [(6, 9), (6, 4), (3, 4), (1, 4), (0, 4)]  # resident blocks, tokens of a piece


class Shortage:
    """Feed-forwards that memory is not enough for, by their number; what the passes that failed leave behind."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: set[int] | range) -> None:
        self.calls = 0
        self.left: list[weakref.ref[Tensor]] = []
        self.alive: list[int] = []
        feed_forward = BlockInPieces.feed_forward

        def short(walk: BlockInPieces, piece: slice) -> None:
            self.calls += 1
            if self.calls in fails:
                self.left += [weakref.ref(walk._x), weakref.ref(walk._k), weakref.ref(walk._v)]
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            if self.left:
                self.alive.append(sum(ref() is not None for ref in self.left))
                self.left = []
            feed_forward(walk, piece)

        monkeypatch.setattr(BlockInPieces, "feed_forward", short)


@pytest.fixture(autouse=True)
def card_beside_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the card is not the host's memory, so that blocks can wait; pieces small enough for a small clip."""
    limits_on = engine.prepare.limits_on

    def two_memories(*arguments: Any) -> Limits:  # noqa: ANN401
        return dataclasses.replace(limits_on(*arguments), one_memory=False)

    monkeypatch.setattr(engine.prepare, "limits_on", two_memories)
    monkeypatch.setattr("engine.denoise.plan.SMALLEST_CHUNK", SMALLEST)


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    return dataclasses.replace(embedded_command(tmp_path), steps=STEPS)


def recuts_of(run: Run) -> list[tuple[int, int]]:
    return [(each.resident_blocks, each.chunk_tokens) for each in run.events if isinstance(each, SamplingRecut)]


@pytest.mark.parametrize("seed", range(3))
def test_the_job_goes_on_in_smaller_pieces(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Any number of shortages at any moments: everything else is as if there had been none."""
    expected = latents_in(finished(command, tmp_path / "whole"))
    chance = random.Random(seed)
    count = chance.randint(1, len(RECUTS))
    shortage = Shortage(monkeypatch, set(chance.sample(range(1, STEPS * 2 * BLOCKS), count)))
    gc.disable()  # nothing may hang on being found some time
    try:
        run = finished(command, tmp_path)
    finally:
        gc.enable()
    assert recuts_of(run) == RECUTS[:count]
    assert off(latents_in(run), expected) < 1e-3
    assert shortage.alive
    assert not any(shortage.alive), "the failed pass has let go of its tensors before the next begins"


def test_blocks_that_leave_the_card_change_nothing(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = dataclasses.replace(command, sampling=SamplingSettings(chunk_tokens=SMALLEST))
    expected = latents_in(finished(command, tmp_path / "whole"))
    Shortage(monkeypatch, {40, 41, 200})
    run = finished(command, tmp_path)
    assert recuts_of(run) == RECUTS[2:]
    assert torch.equal(latents_in(run), expected)


def test_a_transformer_that_finds_no_room_is_loaded_with_fewer_blocks(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = dataclasses.replace(command, sampling=SamplingSettings(chunk_tokens=SMALLEST))
    expected = latents_in(finished(command, tmp_path / "whole"))
    asked = list[int]()

    def loads(*arguments: Any) -> object:  # noqa: ANN401
        asked.append(arguments[-1].blocks)
        if arguments[-1].blocks > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return load_swapped_transformer(*arguments)

    monkeypatch.setattr("engine.sample_latents.load_swapped_transformer", loads)
    run = finished(command, tmp_path)
    assert asked == [6, 3, 1]
    assert torch.equal(latents_in(run), expected)


def test_when_nothing_gets_smaller_the_steps_are_kept(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the job can go on from there, to the same latents, where there is more memory."""
    command = dataclasses.replace(command, sampling=SamplingSettings(resident_blocks=0, chunk_tokens=SMALLEST))
    expected = latents_in(finished(command, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        Shortage(patch, range(2 * 2 * BLOCKS * 5 + 3, 10**6))  # from the third step on; five pieces
        run = Run(command, tmp_path / "jobs")
        end = assert_failed(run(), ErrorCode.OUT_OF_MEMORY)
    assert (end.details["stage"], end.kept_steps, end.latents) == (Stage.SAMPLE, 2, None)
    assert recuts_of(run) == []
    assert SamplingKept(2) in run.events
    rest = Run(ContinueVideo(job_folder_of(run), tmp_path / "rest.mp4"), tmp_path / "jobs")
    assert isinstance(rest(), JobFinished)
    assert torch.equal(latents_in(rest), expected)


def test_other_faults_are_not_taken_for_a_shortage(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(BlockInPieces, "feed_forward", broken)
    run = Run(command, tmp_path / "jobs")
    assert_failed(run(), ErrorCode.UNEXPECTED)
    assert recuts_of(run) == []
