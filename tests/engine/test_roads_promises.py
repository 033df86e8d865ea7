"""What is promised of a whole job: before it starts, all of it, the same that is answered when nobody runs it."""

import dataclasses
import json
from pathlib import Path

import pytest

from engine.commands import GenerateVideo, PlanJob
from engine.engine import Engine
from engine.errors import ErrorCode
from engine.events import (
    DecodePlanned,
    JobPlanned,
    JobStarted,
    SamplingFigures,
    Stage,
    StageFinished,
    StageStarted,
    WeightsRead,
)
from engine.generation import Given, SamplingSettings
from engine.model_choice import ModelParts
from tests.engine.job_run import Run, assert_failed
from tests.engine.road_models import build_embedded, build_experts, embedded_config, with_pictures, write_clip
from tests.engine.road_run import embedded_command, finished, save_scene
from tests.engine.video_reading import read_tag

GIB = 1 << 30
ALL_STAGES = (Stage.TEXT, Stage.IMAGE, Stage.SAMPLE, Stage.DECODE)


@pytest.fixture
def command(tmp_path: Path) -> GenerateVideo:
    """Of a model with every network there is."""
    model = build_embedded(tmp_path / "model", with_pictures(embedded_config(), 1))
    save_scene(tmp_path / "first.png")
    return dataclasses.replace(
        embedded_command(tmp_path, model), steps=2, frames=5, given=Given(tmp_path / "first.png"),
        parts=ModelParts(image_encoder=write_clip(tmp_path / "clip.safetensors")), budget_bytes=4 * GIB,
    )  # fmt: skip


def test_everything_is_said_before_anything_begins(command: GenerateVideo, tmp_path: Path) -> None:
    run = finished(command, tmp_path)
    kinds = [type(event) for event in run.events]
    assert kinds[:3] == [JobStarted, DecodePlanned, JobPlanned]
    planned, started = run.events[2], run.events[0]
    assert isinstance(planned, JobPlanned)
    assert isinstance(started, JobStarted)
    assert tuple(each.stage for each in planned.stages) == ALL_STAGES
    assert started.stages == (*ALL_STAGES, Stage.ENCODE)
    assert planned.fits
    assert all(0 < each.smallest_bytes <= each.predicted_peak_bytes <= 4 * GIB for each in planned.stages)
    began = [(i, event.stage) for i, event in enumerate(run.events) if isinstance(event, StageStarted)]
    ended = [(i, event.stage) for i, event in enumerate(run.events) if isinstance(event, StageFinished)]
    assert [stage for _, stage in began] == [stage for _, stage in ended] == [*started.stages]
    assert all(start < end for (start, _), (end, _) in zip(began, ended, strict=True))
    assert all(end < start for (end, _), (start, _) in zip(ended, began[1:], strict=False))
    spans = {stage: range(start, end) for (start, stage), (end, _) in zip(began, ended, strict=True)}
    read = [(i, event.stage) for i, event in enumerate(run.events) if isinstance(event, WeightsRead)]
    assert read
    assert all(i in spans[stage] for i, stage in read)


def test_the_mp4_says_what_every_stage_was_to_take_and_took(command: GenerateVideo, tmp_path: Path) -> None:
    run = finished(command, tmp_path)
    comment = json.loads(read_tag(command.output, "comment") or "")
    for name in ("predicted_peak_bytes", "budget_bytes", "peak_bytes", "seconds"):
        assert tuple(comment[name]) == ALL_STAGES, name
    told = {event.stage: event for event in run.events if isinstance(event, StageStarted)}
    took = {event.stage: event for event in run.events if isinstance(event, StageFinished)}
    for stage in ALL_STAGES:
        assert comment["predicted_peak_bytes"][stage] == told[stage].predicted_peak_bytes
        assert comment["budget_bytes"][stage] == told[stage].budget_bytes
        assert comment["peak_bytes"][stage] == took[stage].peak_bytes > 0


def test_what_is_answered_is_what_is_run(command: GenerateVideo, tmp_path: Path) -> None:
    settings = SamplingSettings(resident_blocks=2, chunk_tokens=5, joint_guidance=True)
    command = dataclasses.replace(command, sampling=settings)
    outlook = Engine(tmp_path / "jobs").plan_job(PlanJob(command))
    assert not (tmp_path / "jobs").exists()
    run = finished(command, tmp_path)
    assert outlook.planned == next(event for event in run.events if isinstance(event, JobPlanned))
    assert outlook.decode.plan == next(event for event in run.events if isinstance(event, DecodePlanned)).plan
    assert (outlook.width, outlook.height) == (96, 64)
    assert (outlook.planned.sampling.resident_blocks, outlook.planned.sampling.chunk_tokens) == (2, 5)


@pytest.mark.parametrize("budget", [0, 1, 10 << 20, 25 << 20])
def test_a_budget_that_nothing_fits_leaves_no_trace(command: GenerateVideo, tmp_path: Path, budget: int) -> None:
    tight = dataclasses.replace(command, budget_bytes=budget, output=tmp_path / "new" / "clip.mp4")
    run = Run(tight, tmp_path / "jobs")
    end = assert_failed(run(), ErrorCode.NO_PLAN_FITS)
    assert (len(run.events), end.details["budget_bytes"]) == (1, budget)
    assert int(end.details["smallest_bytes"]) > budget
    assert not any((tmp_path / name).exists() for name in ("jobs", "new", "embeddings"))
    outlook = Engine(tmp_path / "jobs").plan_job(PlanJob(tight))
    assert not outlook.planned.fits
    assert max(each.smallest_bytes for each in outlook.planned.stages if not each.fits) == end.details["smallest_bytes"]


def test_the_smallest_that_is_named_is_enough(command: GenerateVideo, tmp_path: Path) -> None:
    tight = Run(dataclasses.replace(command, budget_bytes=1 << 20), tmp_path / "jobs")
    smallest = int(assert_failed(tight(), ErrorCode.NO_PLAN_FITS).details["smallest_bytes"])
    planned = next(
        event
        for event in finished(dataclasses.replace(command, budget_bytes=smallest), tmp_path).events
        if isinstance(event, JobPlanned)
    )
    assert max(each.predicted_peak_bytes for each in planned.stages) == smallest
    one_less = Run(dataclasses.replace(command, budget_bytes=smallest - 1), tmp_path / "jobs")
    assert_failed(one_less(), ErrorCode.NO_PLAN_FITS)


def test_of_two_experts_the_larger_is_planned_for(tmp_path: Path) -> None:
    """Whichever of them it is, and only one at a time."""
    text = dataclasses.replace(embedded_config(), model_type="t2v")
    model, low_noise = build_experts(tmp_path / "model", text)
    pair = dataclasses.replace(embedded_command(tmp_path, model), parts=ModelParts(low_noise=low_noise))
    engine = Engine(tmp_path / "jobs")

    def figures(command: GenerateVideo) -> tuple[int, SamplingFigures]:
        planned = engine.plan_job(PlanJob(command)).planned
        return next(e.predicted_peak_bytes for e in planned.stages if e.stage is Stage.SAMPLE), planned.sampling

    assert figures(pair) == figures(embedded_command(tmp_path))


def test_without_pictures_no_stage_of_them_is_told(tmp_path: Path) -> None:
    run = finished(dataclasses.replace(embedded_command(tmp_path), steps=1, frames=1, guidance=1.0), tmp_path)
    planned = next(event for event in run.events if isinstance(event, JobPlanned))
    assert tuple(each.stage for each in planned.stages) == (Stage.TEXT, Stage.SAMPLE, Stage.DECODE)
