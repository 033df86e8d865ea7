"""The whole road on a tiny model of random weights: commands in, events and pixels out, MP4s read back."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.commands import DecodeLatents, DecodeMode, DecodeSettings, GenerateVideo, from_json
from engine.denoise.streaming import Denoiser
from engine.errors import ErrorCode
from engine.events import (
    DecodePlanned,
    Event,
    JobFinished,
    JobPlanned,
    JobStarted,
    LatentsSaved,
    Stage,
    StageFinished,
    StageProgressed,
    StageStarted,
    WeightsRead,
)
from engine.generation import Solver
from engine.models.video_vae import VideoVae
from tests.engine.job_run import FRAMES, HEIGHT, WIDTH, Run, assert_failed, kept_in, latents_of, tiny_command
from tests.engine.tiny_model import TRANSFORMER, VAE, build_tiny_model
from tests.engine.video_reading import describe_stream, read_frames, read_tag


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path) -> GenerateVideo:
    return tiny_command(tiny_model, tmp_path)


def plain_decode(model: Path, latents: torch.Tensor) -> np.ndarray:
    """The reference: the whole network at once, RGB [T, H, W, 3]."""
    vae = VideoVae(VAE)
    vae.load_state_dict(load_file(model / "Wan2.1_VAE.safetensors"))
    with torch.no_grad():
        video = vae.decode(latents)[0].clamp(-1, 1)
    return ((video + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()


def test_prompt_to_mp4(command: GenerateVideo, tmp_path: Path) -> None:
    run = Run(command, tmp_path / "jobs")
    end = run()
    assert isinstance(end, JobFinished), end
    latents = load_file(next(event.path for event in run.events if isinstance(event, LatentsSaved)))["latents"]
    assert latents.shape == (1, 8, 3, 6, 8)
    expected = plain_decode(command.model, latents)
    shown = run.canvas.pixels[..., 2::-1].astype(int)
    assert np.abs(shown - expected).max() <= 1
    assert (run.canvas.rows_done == HEIGHT).all()
    video = read_frames(command.output, WIDTH, HEIGHT)
    assert video.shape == expected.shape
    # 4:2:0 halves the colour, so luma is what must survive.
    weights = np.array([0.2126, 0.7152, 0.0722])
    assert np.abs(video @ weights - expected @ weights).mean() < 4


def test_events_tell_the_story_in_order(command: GenerateVideo, tmp_path: Path) -> None:
    run = Run(command, tmp_path / "jobs")
    end = run()
    kinds = [type(event) for event in run.events if not isinstance(event, StageProgressed | WeightsRead)]
    stage = [StageStarted, StageFinished]
    assert kinds == [JobStarted, DecodePlanned, JobPlanned, *stage * 2, LatentsSaved, *stage * 2, JobFinished]
    started = run.events[0]
    assert isinstance(started, JobStarted)
    assert (started.width, started.height, started.frames, started.fps) == (WIDTH, HEIGHT, FRAMES, 16)
    finished = [event for event in run.events if isinstance(event, StageFinished)]
    assert tuple(event.stage for event in finished) == started.stages
    assert isinstance(end, JobFinished)
    assert end.peak_bytes == max(event.peak_bytes for event in finished)
    assert sum(event.seconds for event in finished) <= end.seconds
    for name in started.stages[2:]:
        counts = [(e.done, e.total) for e in run.events if isinstance(e, StageProgressed) and e.stage is name]
        assert [done for done, _ in counts] == sorted({done for done, _ in counts})
        assert counts[-1][0] == counts[-1][1]
    for name in (Stage.TEXT, Stage.SAMPLE, Stage.DECODE):  # each reads one network
        read = [event for event in run.events if isinstance(event, WeightsRead) and event.stage is name]
        assert read[-1].done_bytes == read[-1].total_bytes > 0
    assert kept_in(started.job_folder) == ["command.json", "ended.json", "job.lock", "latents.safetensors"]


def test_the_mp4_knows_how_it_was_made(command: GenerateVideo, tmp_path: Path) -> None:
    Run(command, tmp_path / "jobs")()
    comment = json.loads(read_tag(command.output, "comment") or "")
    assert from_json(json.dumps(comment["command"])) == command
    figures = ("seconds", "predicted_peak_bytes", "budget_bytes", "peak_bytes")
    assert all(set(comment[name]) == {"text", "sample", "decode"} for name in figures)
    assert comment["sampling"]["resident_blocks"] == comment["sampling"]["blocks"] == TRANSFORMER.num_layers
    assert comment["models"]["transformer"] == "diffusion_pytorch_model.safetensors"


def test_only_what_is_in_the_command_matters(command: GenerateVideo, tmp_path: Path) -> None:
    first = latents_of(command, tmp_path / "jobs")
    torch.manual_seed(123)
    assert torch.equal(first, latents_of(command, tmp_path / "jobs"))
    changes: dict[str, Any] = {
        "seed": 12, "prompt": "a blue box", "negative_prompt": "star", "guidance": 2.0, "steps": 4, "shift": 6.0,
        "solver": Solver.EULER,
    }  # fmt: skip
    for name, value in changes.items():
        other = latents_of(dataclasses.replace(command, **{name: value}), tmp_path / "jobs")
        assert not torch.allclose(first, other, atol=1e-4), name
    no_guidance = dataclasses.replace(command, guidance=1.0)
    plain = latents_of(no_guidance, tmp_path / "jobs")
    assert torch.equal(plain, latents_of(dataclasses.replace(no_guidance, negative_prompt="star"), tmp_path / "jobs"))


def test_guidance_costs_a_second_pass_only_when_it_is_on(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, forward = [0], Denoiser.velocity

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        passes[0] += 1
        return forward(*arguments, **options)

    monkeypatch.setattr(Denoiser, "velocity", counted)
    Run(command, tmp_path / "jobs")()
    Run(dataclasses.replace(command, guidance=1.0), tmp_path / "jobs")()
    assert passes[0] == 3 * 2 + 3


@pytest.mark.parametrize("mode", list(DecodeMode))
def test_every_decode_mode_gives_the_same_mp4(command: GenerateVideo, tmp_path: Path, mode: DecodeMode) -> None:
    strips = None if mode in (DecodeMode.WHOLE, DecodeMode.AUTOMATIC) else 16
    settings = DecodeSettings(mode, strip_rows=strips)
    run = Run(dataclasses.replace(command, decode=settings), tmp_path / "jobs")
    assert isinstance(run(), JobFinished)
    latents = load_file(next(event.path for event in run.events if isinstance(event, LatentsSaved)))["latents"]
    assert np.abs(run.canvas.pixels[..., 2::-1].astype(int) - plain_decode(command.model, latents)).max() <= 1


def test_the_preview_shows_the_latents(command: GenerateVideo, tmp_path: Path) -> None:
    pictures: list[np.ndarray] = []

    def keep(event: Event) -> None:
        if isinstance(event, StageProgressed) and event.stage is Stage.SAMPLE and event.done:
            pictures.append(run.canvas.preview.copy())
            assert run.canvas.take_dirty()[1]

    run = Run(command, tmp_path / "jobs", keep)
    run()
    assert [picture.shape for picture in pictures] == [(3, 6, 8, 4)] * 3
    assert all(picture[..., :3].std() > 1 for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])


def test_latents_can_be_decoded_again(command: GenerateVideo, tmp_path: Path) -> None:
    run = Run(command, tmp_path / "jobs")
    run()
    path = next(event.path for event in run.events if isinstance(event, LatentsSaved))
    again = DecodeLatents(path, tmp_path / "again.mp4")  # with the model that the command beside them names
    second = Run(again, tmp_path / "jobs")
    assert isinstance(second(), JobFinished)
    assert np.array_equal(run.canvas.pixels, second.canvas.pixels)
    first_video = read_frames(command.output, WIDTH, HEIGHT)
    assert np.array_equal(read_frames(again.output, WIDTH, HEIGHT), first_video)
    comment = json.loads(read_tag(again.output, "comment") or "")
    assert from_json(json.dumps(comment["command"])) == again
    assert from_json(json.dumps(comment["origin"])) == command
    assert second.canvas.preview[..., :3].std() > 1


def test_a_command_of_a_later_version_is_in_nobodys_way(command: GenerateVideo, tmp_path: Path) -> None:
    latents_of(command, tmp_path / "jobs")
    path = next((tmp_path / "jobs").glob("*/latents.safetensors"))
    beside = path.with_name("command.json")
    beside.write_text(json.dumps(json.loads(beside.read_text("utf-8")) | {"mood": "bright"}), "utf-8")
    again = DecodeLatents(path, tmp_path / "again.mp4")
    assert_failed(Run(again, tmp_path / "jobs")(), ErrorCode.LATENTS_INVALID)
    told = dataclasses.replace(again, model=command.model, fps=16)
    assert isinstance(Run(told, tmp_path / "jobs")(), JobFinished)


def test_networks_that_do_not_fit_are_refused_before_anything_is_loaded(command: GenerateVideo, tmp_path: Path) -> None:
    short_text = build_tiny_model(tmp_path / "text", dataclasses.replace(TRANSFORMER, text_dim=64))
    shutil.copy(command.model / "models_t5_umt5.safetensors", short_text)
    broken_vae = build_tiny_model(tmp_path / "vae")
    tensors = load_file(broken_vae / "Wan2.1_VAE.safetensors")
    tensors["decoder.head.2.bias"] = torch.zeros(4)
    save_file(tensors, broken_vae / "Wan2.1_VAE.safetensors")
    for model, reason in ((short_text, "the transformer takes 64"), (broken_vae, "decoder.head.2.bias")):
        run = Run(dataclasses.replace(command, model=model), tmp_path / "jobs")
        end = assert_failed(run(), ErrorCode.MODEL_INVALID)
        assert reason in str(end.details["reason"])
        assert len(run.events) == 1


def test_every_stage_says_before_it_starts_what_it_will_take(command: GenerateVideo, tmp_path: Path) -> None:
    budget = DecodeSettings(budget_bytes=2**28)
    run = Run(dataclasses.replace(command, decode=budget), tmp_path / "jobs")
    run()
    started = {event.stage: event for event in run.events if isinstance(event, StageStarted)}
    assert all(event.predicted_peak_bytes > 2**26 for event in started.values()), "a process with torch in it"
    held = started[Stage.DECODE].budget_bytes
    assert held is not None
    assert started[Stage.DECODE].predicted_peak_bytes < held
    assert {stage for stage, event in started.items() if event.budget_bytes is None} == {Stage.ENCODE}


def test_decoded_latents_keep_their_frame_rate(command: GenerateVideo, tmp_path: Path) -> None:
    latents_of(dataclasses.replace(command, fps=10), tmp_path / "jobs")
    path = next((tmp_path / "jobs").glob("*/latents.safetensors"))
    again = DecodeLatents(path, tmp_path / "again.mp4", command.model)
    for fps, rate in ((None, 10), (25, 25)):
        assert isinstance(Run(dataclasses.replace(again, fps=fps), tmp_path / "jobs")(), JobFinished)
        assert f"{rate} fps" in describe_stream(again.output)
    assert_failed(Run(dataclasses.replace(again, fps=0), tmp_path / "jobs")(), ErrorCode.INVALID_SETTING)
    (path.parent / "command.json").unlink()
    Run(again, tmp_path / "jobs")()
    assert "16 fps" in describe_stream(again.output)


def test_what_the_model_cannot_sample_is_sampled_larger_and_cut(command: GenerateVideo, tmp_path: Path) -> None:
    """Patches of 4 make sides multiples of 32; the frames are the upper left of those of the larger job."""
    patched = dataclasses.replace(TRANSFORMER, patch_size=(1, 4, 4))
    model = build_tiny_model(tmp_path / "patch4", patched)
    cut = Run(dataclasses.replace(command, model=model, width=50, height=34), tmp_path / "jobs")
    assert isinstance(cut(), JobFinished)
    whole = Run(dataclasses.replace(command, model=model, width=64, height=64), tmp_path / "jobs")
    assert isinstance(whole(), JobFinished)
    assert np.array_equal(cut.canvas.pixels, whole.canvas.pixels[:, :34, :50])
    started = cut.events[0]
    assert isinstance(started, JobStarted)
    assert (started.width, started.height) == (50, 34)
