"""A job whose model has a preview decoder: its pictures on the canvas, the result untouched, a cancel heard."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.cancel import CancelFlag, Cancelled
from engine.canvas import Canvas
from engine.commands import DecodeLatents, GenerateVideo
from engine.device import Device, pick_device
from engine.errors import ErrorCode
from engine.events import Event, JobFinished, LatentsSaved, Stage, StageProgressed, StageStarted
from engine.job import Job
from engine.memory.predict_preview import preview_stage_bytes
from engine.models.preview_decoder import PreviewDecoderConfig
from engine.preview import preview_pictures
from engine.stages import Stages
from tests.engine.job_run import Run, assert_failed, latents_of, tiny_command
from tests.engine.random_preview_decoder import TINY, TINY_SUPER, random_decoder, store

CPU = torch.device("cpu")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny model in a folder of its own, a preview decoder beside it."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    store(random_decoder(TINY), folder / "previews" / "taew2_1.pth")
    return folder


def halved(pictures: np.ndarray) -> np.ndarray:
    """The mean of every four pixels of [T, 3, H, W]."""
    t, colours, height, width = pictures.shape
    return pictures.reshape(t, colours, height // 2, 2, width // 2, 2).mean(axis=(3, 5))


def test_its_pictures_are_on_the_canvas_after_every_step(model: Path, tmp_path: Path) -> None:
    seen: list[np.ndarray] = []

    def keep(event: Event) -> None:
        if isinstance(event, StageProgressed) and event.stage is Stage.SAMPLE and event.done:
            seen.append(run.canvas.preview.copy())
            assert run.canvas.take_dirty()[1]

    run = Run(tiny_command(model, tmp_path), tmp_path / "jobs", keep)
    assert isinstance(run(), JobFinished)
    assert [picture.shape for picture in seen] == [(3, 24, 32, 4)] * 3, "half of the clip's 48 rows and 64 columns"
    assert not np.array_equal(seen[0], seen[1])
    latents = load_file(next(event.path for event in run.events if isinstance(event, LatentsSaved)))["latents"]
    whole = random_decoder(TINY)(latents.transpose(1, 2))[0, ::4]  # the last step's x0 is what sampling ends with
    expected = 255 * halved(whole.numpy())[:, ::-1].transpose(0, 2, 3, 1)  # B, G, R
    assert expected.std() > 10
    assert np.abs(seen[-1][..., :3] - expected).max() <= 0.51
    assert (seen[-1][..., 3] == 255).all()


def test_it_changes_nothing_but_the_preview(model: Path, tiny_model: Path, tmp_path: Path) -> None:
    with_it = latents_of(tiny_command(model, tmp_path / "a"), tmp_path / "a")
    assert torch.equal(with_it, latents_of(tiny_command(tiny_model, tmp_path / "b"), tmp_path / "b"))


def test_decoding_again_begins_with_the_linear_map(model: Path, tmp_path: Path) -> None:
    """Real rows come at once there; loading another network for the time before would only delay them."""
    latents_of(tiny_command(model, tmp_path), tmp_path / "jobs")
    path = next((tmp_path / "jobs").glob("*/latents.safetensors"))
    run = Run(DecodeLatents(path, tmp_path / "again.mp4"), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    assert run.canvas.preview.shape == (3, 6, 8, 4)


def test_a_decoder_for_other_latents_leaves_the_linear_map(tiny_model: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    store(random_decoder(dataclasses.replace(TINY, latent_channels=16)), model / "taew2_1.safetensors")
    run = Run(tiny_command(model, tmp_path), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    assert run.canvas.preview.shape == (3, 6, 8, 4)
    assert run.canvas.preview[..., :3].std() > 1


def test_a_damaged_one_is_told_before_anything_runs(model: Path, tmp_path: Path) -> None:
    path = model / "previews" / "taew2_1.pth"
    path.write_bytes(path.read_bytes()[:-100])
    run = Run(tiny_command(model, tmp_path), tmp_path / "jobs")
    end = assert_failed(run(), ErrorCode.MODEL_INVALID)
    assert end.details["file"] == str(path)
    assert len(run.events) == 1
    assert not (tmp_path / "jobs").exists()


def test_sampling_says_that_it_takes_more(model: Path, tiny_model: Path, tmp_path: Path) -> None:
    """What is held already moves with the process; a wide decoder makes the difference larger than that."""
    wide = dataclasses.replace(TINY, widths=(512, 256, 128, 64))
    store(random_decoder(wide), model / "previews" / "taew2_1.pth")
    announced = []
    for folder in (tiny_model, model):
        command: GenerateVideo = dataclasses.replace(tiny_command(folder, tmp_path), steps=1)
        run = Run(command, tmp_path / "jobs")
        assert isinstance(run(), JobFinished)
        started = [e for e in run.events if isinstance(e, StageStarted)]
        text, sampling = (next(e for e in started if e.stage is stage) for stage in (Stage.TEXT, Stage.SAMPLE))
        announced.append(sampling.predicted_peak_bytes - text.predicted_peak_bytes)
    more = preview_stage_bytes(wide, (3, 6, 8), pick_device())
    assert more > 2**26
    assert abs(announced[1] - announced[0] - more) < more / 2


class LateCancel(CancelFlag):
    """Is set while it is asked for the `answers`th time."""

    def __init__(self, answers: int) -> None:
        super().__init__()
        self.answers = answers

    def raise_if_set(self) -> None:
        self.answers -= 1
        if self.answers == 0:
            self.set()
        super().raise_if_set()


@pytest.mark.parametrize("config", [TINY, TINY_SUPER], ids=["plain", "super"])
def test_a_cancel_is_heard_between_two_pictures(config: PreviewDecoderConfig, tmp_path: Path) -> None:
    decoder = random_decoder(config)
    latents = torch.randn(1, TINY.latent_channels, 4, 3, 4, generator=torch.Generator().manual_seed(2))
    asked: list[None] = []
    pictures = list(preview_pictures(latents, decoder, (12, 16), lambda: asked.append(None)))
    canvas, cancel = Canvas(), LateCancel(len(asked) // 2 + 2)  # when the second is made but not shown
    canvas.open(np.zeros((13, 24, 32, 4), np.uint8), 4, 12, 16)
    stages = Stages(lambda _: None, CPU)
    job = Job(lambda _: None, canvas, cancel, Device(CPU, torch.float32, torch.float32), stages, tmp_path)
    with pytest.raises(Cancelled):
        job.show_preview(latents, decoder)
    assert [np.array_equal(canvas.preview[t, ..., :3], pictures[t]) for t in range(4)] == [True, False, False, False]
    assert not canvas.preview[2:, ..., :3].any()
    assert canvas.take_dirty() == ([], True)


def test_a_decoder_works_in_its_own_dtype() -> None:
    decoder = random_decoder(TINY)
    latents = torch.randn(1, TINY.latent_channels, 2, 3, 4, generator=torch.Generator().manual_seed(3))
    exact, coarse = (
        np.stack(list(preview_pictures(latents, decoder.to(dtype), (12, 16), lambda: None))).astype(int)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact.shape == (2, 12, 16, 3)
    assert 0 < np.abs(exact - coarse).max() <= 16
