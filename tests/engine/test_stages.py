"""A stage tells its promise in the measure of its result, and keeps its peak when it fails."""

import psutil
import pytest
import torch

from engine.events import Event, Stage, StageFinished, StageStarted
from engine.stages import Stages, libraries_bytes


def test_promises_and_peaks_are_in_one_measure() -> None:
    events: list[Event] = []
    stages = Stages(events.append, torch.device("cpu"))
    resident = psutil.Process().memory_info().rss
    with stages.run(Stage.SAMPLE, 2**28, 2**29):
        block = torch.ones(2**26)  # 256 MiB of float32
        assert block.sum() == 2**26
    started, finished = events
    assert isinstance(started, StageStarted)
    assert isinstance(finished, StageFinished)
    allowed = libraries_bytes(Stage.SAMPLE, torch.device("cpu"))
    assert started.predicted_peak_bytes == pytest.approx(resident + 2**28 + allowed, rel=0.05)
    assert started.budget_bytes == started.predicted_peak_bytes + 2**28
    assert finished.peak_bytes == pytest.approx(resident + 2**28, rel=0.05)
    assert finished.peak_bytes <= started.predicted_peak_bytes


def test_a_stage_that_fails_leaves_its_peak_and_no_result() -> None:
    events: list[Event] = []
    stages = Stages(events.append, torch.device("cpu"))
    with pytest.raises(MemoryError), stages.run(Stage.DECODE, 0):
        raise MemoryError
    assert stages.highest_peak_bytes > 0
    assert stages.current is Stage.DECODE
    assert [type(event) for event in events] == [StageStarted]
