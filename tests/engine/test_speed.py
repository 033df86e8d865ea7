"""The time of a step is guessed from what the device does, and the slower of computing and copying counts."""

import dataclasses

import pytest
import torch

from engine.denoise.plan import plan_sampling
from engine.denoise.speed import Speed, seconds_a_step, speed_of
from engine.generation import SamplingSettings
from engine.weights.card import NetworkBytes
from tests.engine.tiny_model import TRANSFORMER


def test_the_slower_of_both_counts() -> None:
    network = NetworkBytes(1000, (1000,) * TRANSFORMER.num_layers, 0)
    plan = plan_sampling(
        TRANSFORMER, (3, 8, 8), torch.float32, network, SamplingSettings(resident_blocks=0), None, guided=False
    )
    flop, copied = plan.tflop * 1e12, plan.copied_bytes
    assert seconds_a_step(plan, Speed(flop / 0.6, 1e18)) == pytest.approx(1)
    assert seconds_a_step(plan, Speed(1e24, copied / 5)) == pytest.approx(5)
    assert seconds_a_step(dataclasses.replace(plan, copied_bytes=0), Speed(flop / 0.6, 1.0)) == pytest.approx(1)


def test_this_device_has_a_speed_that_is_no_nonsense() -> None:
    speed = speed_of(torch.device("cpu"), torch.float32)
    assert speed is not None
    assert 1e8 < speed.flop < 1e15
    assert 1e7 < speed.copied_bytes < 1e13
    assert speed_of(torch.device("cpu"), torch.float32) is speed
