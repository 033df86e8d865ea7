"""A cancel in the middle of a strip: it leaves within the step, and takes every tensor with it."""

import gc
from collections.abc import Iterator

import pytest

from engine.cancel import Cancelled
from engine.commands import DecodeMode, DecodeSettings
from engine.decode.streaming import decode_blocks
from engine.memory.simulate import LiveStorages
from engine.models.video_vae import VideoVae
from tests.engine.decode_cases import NARROW, Case, latents_of, network, planned

SHAPE = (4, 5, 3)


@pytest.fixture(scope="module")
def vae() -> VideoVae:
    return network(NARROW)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Whatever is freed is freed at once, and not when Python next looks for cycles."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class CancelAt:
    """Raises `Cancelled` at one call, and counts all."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.calls == self.number:
            raise Cancelled


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("mode", [DecodeMode.STRIP_MAJOR, DecodeMode.FRAME_MAJOR])
def test_a_cancel_leaves_within_the_step_and_frees_the_memory(mode: DecodeMode, vae: VideoVae) -> None:
    plan, latents = planned(Case(SHAPE, DecodeSettings(mode, 16, 1)), NARROW), latents_of(SHAPE)
    calls_before = [0]  # of the steps up to each block
    undisturbed = CancelAt(0)
    with LiveStorages():  # torch imports much at the first use of one; during a cancel that would keep its traceback
        for _ in decode_blocks(vae, latents, plan, undisturbed):
            calls_before.append(undisturbed.calls)
    for step in range(len(calls_before) - 1):
        middle = (calls_before[step] + calls_before[step + 1]) // 2
        with LiveStorages() as storages:
            for tensor in (*vae.parameters(), latents):  # were there before, and are seen when views of them are made
                storages.follow(tensor)
            ground = storages.live["cpu"]
            cancel, blocks = CancelAt(middle), 0
            try:
                for _ in decode_blocks(vae, latents, plan, cancel):
                    blocks += 1
                    del _
            except Cancelled:
                pass
            assert storages.peak["cpu"] > ground
            assert storages.live["cpu"] == ground, f"{mode}, step {step}"
        assert (cancel.calls, blocks) == (middle, step)
