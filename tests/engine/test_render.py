"""What is told of a decode that runs out of memory for good: what it lacks, or that it should have had enough."""

import dataclasses
from pathlib import Path

import pytest
import torch

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import DecodePlan, peak_in_smallest_strips
from engine.device import Device
from engine.errors import EngineError, ErrorCode
from engine.job import Job
from engine.render import blocks_of
from engine.stages import Stages
from tests.engine.decode_cases import NARROW, Case, latents_of, network, planned

SHAPE = (2, 5, 3)
CPU = torch.device("cpu")


class Exhausted(CancelFlag):
    """Memory has run out whenever a layer begins."""

    def raise_if_set(self) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")


def decode_in(plan: DecodePlan, folder: Path) -> None:
    """Decode as `plan` says, without memory."""
    device = Device(CPU, torch.float32, torch.float32)
    job = Job(lambda _: None, Canvas(), Exhausted(), device, Stages(lambda _: None, CPU), folder)
    list(blocks_of(job, network(NARROW), latents_of(SHAPE), plan, folder))


@pytest.fixture
def plan() -> DecodePlan:
    return planned(Case(SHAPE, DecodeSettings(DecodeMode.FRAME_MAJOR, 24, 1)), NARROW)


@pytest.mark.parametrize(("free", "budget"), [(-1, None), (-1, 5), (5, -1), (-2, -1), (-1, -2)])
def test_what_is_lacking_is_told(
    free: int, budget: int | None, plan: DecodePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is free and of the budget the lesser counts; both are told from what the smallest strips take."""
    smallest = peak_in_smallest_strips(plan, SHAPE[2], NARROW, torch.float32)
    monkeypatch.setattr("engine.render.free_bytes", lambda _: smallest + free)
    held = dataclasses.replace(plan, budget_bytes=None if budget is None else smallest + budget)
    with pytest.raises(EngineError) as caught:
        decode_in(held, tmp_path)
    lesser = min(free, 0 if budget is None else budget)
    assert caught.value.code is ErrorCode.NO_PLAN_FITS
    assert caught.value.details == {"budget_bytes": smallest + lesser, "smallest_bytes": smallest}


@pytest.mark.parametrize("budget", [None, 0, 5])
def test_strips_that_should_have_fitted(
    budget: int | None, plan: DecodePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smallest = peak_in_smallest_strips(plan, SHAPE[2], NARROW, torch.float32)
    monkeypatch.setattr("engine.render.free_bytes", lambda _: smallest)
    with pytest.raises(torch.OutOfMemoryError):
        decode_in(dataclasses.replace(plan, budget_bytes=None if budget is None else smallest + budget), tmp_path)
