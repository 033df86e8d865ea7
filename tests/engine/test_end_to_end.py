"""The whole road on a tiny model of random weights: commands in, MP4s read back, and every way to stop midway."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.cli import main
from engine.commands import Command, DecodeLatents, DecodeMode, DecodeSettings, GenerateVideo, Solver, from_json
from engine.engine import Engine
from engine.errors import ErrorCode
from engine.events import (
    DecodePlanned,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobStarted,
    LatentsSaved,
    Stage,
    StageFinished,
    StageProgressed,
    StageStarted,
)
from engine.models.transformer import WanTransformer
from engine.models.video_vae import VideoVae
from tests.engine.tiny_model import TRANSFORMER, VAE, build_tiny_model
from tests.engine.video_reading import describe_stream, read_frames, read_tag

WIDTH, HEIGHT, FRAMES = 64, 48, 9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def command(model: Path, tmp_path: Path) -> GenerateVideo:
    return GenerateVideo(
        "a red 球; x=1\nbouncing", tmp_path / "out" / "clip.mp4", model, width=WIDTH, height=HEIGHT, frames=FRAMES,
        steps=3, seed=11,
    )  # fmt: skip


class Run:
    """One job run in this process, with everything it said."""

    def __init__(self, command: Command, jobs: Path, on_event: Callable[[Event], None] | None = None) -> None:
        self.events: list[Event] = []
        self.canvas, self.cancel = Canvas(), CancelFlag()
        self._on_event = on_event
        self.command, self.engine = command, Engine(jobs)

    def __call__(self) -> Event:
        self.engine.run(self.command, self._emit, self.canvas, self.cancel)
        return self.events[-1]

    def _emit(self, event: Event) -> None:
        self.events.append(event)
        if self._on_event is not None:
            self._on_event(event)


def plain_decode(model: Path, latents: torch.Tensor) -> np.ndarray:
    """The reference: the whole network at once, RGB [T, H, W, 3]."""
    vae = VideoVae(VAE)
    vae.load_state_dict(load_file(model / "Wan2.1_VAE.safetensors"))
    with torch.no_grad():
        video = vae.decode(latents)[0].clamp(-1, 1)
    return ((video + 1) * 127.5).round().permute(1, 2, 3, 0).numpy()


def assert_no_part_and_no_ffmpeg(folder: Path) -> None:
    assert not folder.exists() or list(folder.glob("*.part")) == []
    assert [child.name() for child in psutil.Process().children() if "ffmpeg" in child.name()] == []


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
    kinds = [type(event) for event in run.events if not isinstance(event, StageProgressed)]
    stage = [StageStarted, StageFinished]
    assert kinds == [JobStarted, DecodePlanned, *stage * 3, LatentsSaved, *stage * 2, JobFinished]
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
    assert sorted(file.name for file in started.job_folder.iterdir()) == ["command.json", "latents.safetensors"]


def test_the_mp4_knows_how_it_was_made(command: GenerateVideo, tmp_path: Path) -> None:
    Run(command, tmp_path / "jobs")()
    comment = json.loads(read_tag(command.output, "comment") or "")
    assert from_json(json.dumps(comment["command"])) == command
    assert set(comment["seconds"]) == set(comment["peak_bytes"]) == {"load", "text", "sample", "decode"}
    assert comment["models"]["transformer"] == "diffusion_pytorch_model.safetensors"


def latents_of(command: GenerateVideo, jobs: Path) -> torch.Tensor:
    run = Run(command, jobs)
    assert isinstance(run(), JobFinished)
    return load_file(next(event.path for event in run.events if isinstance(event, LatentsSaved)))["latents"]


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
    passes, forward = [0], WanTransformer.forward

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:  # noqa: ANN401
        passes[0] += 1
        return forward(*arguments, **options)

    monkeypatch.setattr(WanTransformer, "forward", counted)
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
    again = DecodeLatents(path, tmp_path / "again.mp4", command.model)
    second = Run(again, tmp_path / "jobs")
    assert isinstance(second(), JobFinished)
    assert np.array_equal(run.canvas.pixels, second.canvas.pixels)
    first_video = read_frames(command.output, WIDTH, HEIGHT)
    assert np.array_equal(read_frames(again.output, WIDTH, HEIGHT), first_video)
    comment = json.loads(read_tag(again.output, "comment") or "")
    assert from_json(json.dumps(comment["command"])) == again
    assert from_json(json.dumps(comment["origin"])) == command
    assert second.canvas.preview[..., :3].std() > 1


def test_decoded_latents_keep_their_frame_rate(command: GenerateVideo, tmp_path: Path) -> None:
    latents_of(dataclasses.replace(command, fps=10), tmp_path / "jobs")
    path = next((tmp_path / "jobs").glob("*/latents.safetensors"))
    again = DecodeLatents(path, tmp_path / "again.mp4", command.model)
    for change, rate in (({}, 10), ({"fps": 25}, 25)):
        assert isinstance(Run(dataclasses.replace(again, **change), tmp_path / "jobs")(), JobFinished)
        assert f"{rate} fps" in describe_stream(again.output)
    assert_failed(Run(dataclasses.replace(again, fps=0), tmp_path / "jobs")(), ErrorCode.INVALID_SETTING)
    (path.parent / "command.json").unlink()
    Run(again, tmp_path / "jobs")()
    assert "16 fps" in describe_stream(again.output)


def assert_failed(end: Event, code: ErrorCode) -> JobFailed:
    assert isinstance(end, JobFailed), end
    assert end.code is code
    return end


def test_what_cannot_work_is_refused_before_anything_runs(command: GenerateVideo, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    impossible: list[tuple[dict[str, Any], ErrorCode]] = [
        ({"width": 72}, ErrorCode.INVALID_SIZE),
        ({"frames": 10}, ErrorCode.INVALID_FRAMES),
        ({"steps": 0}, ErrorCode.INVALID_SETTING),
        ({"fps": 0}, ErrorCode.INVALID_SETTING),
        ({"model": tmp_path / "nothing"}, ErrorCode.MODEL_NOT_FOUND),
        ({"output": tmp_path / "file" / "out.mp4"}, ErrorCode.OUTPUT_NOT_WRITABLE),
        ({"decode": DecodeSettings(budget_bytes=1000)}, ErrorCode.NO_PLAN_FITS),
    ]
    for change, code in impossible:
        run = Run(dataclasses.replace(command, **change), tmp_path / "jobs")
        assert_failed(run(), code)
        assert len(run.events) == 1
    assert not (tmp_path / "jobs").exists()


def test_a_failed_video_keeps_the_latents(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: "/bin/false")
    end = assert_failed(Run(command, tmp_path / "jobs")(), ErrorCode.VIDEO_WRITER_FAILED)
    assert "code 1" in str(end.details["last_lines"])
    assert end.latents is not None
    assert end.latents.exists()
    monkeypatch.undo()
    again = DecodeLatents(end.latents, command.output, command.model)
    assert isinstance(Run(again, tmp_path / "jobs")(), JobFinished)


def test_a_transformer_that_breaks_down_is_named(command: GenerateVideo, tmp_path: Path) -> None:
    broken = shutil.copytree(command.model, tmp_path / "broken")
    file = broken / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    content[-4000:] = np.full(1000, np.nan, np.float32).tobytes()
    file.write_bytes(content)
    run = Run(dataclasses.replace(command, model=broken), tmp_path / "jobs")
    assert "not finite" in str(assert_failed(run(), ErrorCode.MODEL_INVALID).details["reason"])


def test_an_unexpected_fault_has_its_traceback(
    command: GenerateVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.render.to_bgrx", lambda rgb: {}[rgb.shape])
    end = assert_failed(Run(command, tmp_path / "jobs")(), ErrorCode.UNEXPECTED)
    assert "Traceback" in end.technical
    assert "in place" in end.technical
    assert "KeyError" in str(end.details["reason"])
    assert end.latents is not None
    assert end.latents.exists()


CANCEL_POINTS = [(Stage.SAMPLE, 1), (Stage.DECODE, 0), (Stage.DECODE, 1), (Stage.ENCODE, 2)]


@pytest.mark.parametrize(("stage", "done"), CANCEL_POINTS)
def test_cancel_leaves_nothing_half_done(command: GenerateVideo, tmp_path: Path, stage: Stage, done: int) -> None:
    def cancel_there(event: Event) -> None:
        if isinstance(event, StageProgressed) and (event.stage, event.done) == (stage, done):
            run.cancel.set()

    run = Run(command, tmp_path / "jobs", cancel_there)
    end = run()
    assert isinstance(end, JobCancelled), end
    assert (end.latents is not None) == (stage is not Stage.SAMPLE)
    assert not command.output.exists()
    assert_no_part_and_no_ffmpeg(command.output.parent)
    assert not list((tmp_path / "jobs").glob("*/frames*"))
    assert all(thread.name not in ("video-writer", "peak-memory") for thread in threading.enumerate())


@pytest.mark.slow
@pytest.mark.parametrize("stage", [Stage.SAMPLE, Stage.DECODE])
def test_cancel_acts_at_once_on_a_larger_clip(command: GenerateVideo, tmp_path: Path, stage: Stage) -> None:
    """Within 300 ms is the promise; three times that is allowed for a busy machine."""
    asked = [0.0]

    def ask() -> None:
        asked[0] = time.monotonic()
        run.cancel.set()

    def ask_soon(event: Event) -> None:
        if isinstance(event, StageProgressed) and event.stage is stage and event.done == 0:
            threading.Timer(0.25, ask).start()

    large = dataclasses.replace(command, width=256, height=256, frames=33, steps=1 if stage is Stage.DECODE else 1000)
    run = Run(large, tmp_path / "jobs", ask_soon)
    assert isinstance(run(), JobCancelled)
    assert time.monotonic() - asked[0] < 0.9


# The command line, in processes of its own.


def engine_process(*arguments: str | Path, own_group: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "engine", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=own_group,
    )


def engine(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    process = engine_process(*arguments)
    out, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def generate_arguments(model: Path, folder: Path, size: str = "64x48", frames: int = 9) -> list[str | Path]:
    return [
        "generate", "a red ball", "--model", model, "--size", size, "--frames", str(frames), "--steps", "2",
        "--jobs", folder / "jobs", "-o", folder / "clip.mp4",
    ]  # fmt: skip


def events_of(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in lines)


def test_the_command_line_makes_a_video(model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(model, tmp_path), "--json", "--seed", "5", "--solver", "euler")
    assert done.returncode == 0, done.stderr
    events = list(events_of(iter(done.stdout.splitlines())))
    assert (events[0]["event"], events[-1]["event"]) == ("JobStarted", "JobFinished")
    assert read_frames(tmp_path / "clip.mp4", 64, 48).shape == (9, 48, 64, 3)
    comment = json.loads(read_tag(tmp_path / "clip.mp4", "comment") or "")
    assert comment["command"]["seed"] == 5
    assert comment["command"]["solver"] == "euler"


def test_plain_output_is_for_people(model: Path, tmp_path: Path) -> None:
    done = engine(*generate_arguments(model, tmp_path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "clip.mp4" in done.stderr.splitlines()[-1]
    assert "sampling" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_killed_between_latents_and_decode(model: Path, tmp_path: Path) -> None:
    """kill -9 the moment the latents are safe: `decode` finishes the job with nothing but the folder."""
    process = engine_process(*generate_arguments(model, tmp_path, "256x256", 33), "--json")
    assert process.stdout is not None
    saved = next(event for event in events_of(process.stdout) if event["event"] == "LatentsSaved")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "clip.mp4").exists()
    done = engine("decode", saved["path"], "--model", model, "--jobs", tmp_path / "jobs", "-o", tmp_path / "again.mp4")
    assert done.returncode == 0, done.stderr
    assert len(read_frames(tmp_path / "again.mp4", 256, 256)) == 33


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("stage", "number"), [("sample", signal.SIGINT), ("decode", signal.SIGINT),
                                               ("decode", signal.SIGTERM)])  # fmt: skip
def test_interrupt_cancels_cleanly(model: Path, tmp_path: Path, stage: str, number: signal.Signals) -> None:
    """The signal goes to the whole process group, as a terminal sends it."""
    arguments = generate_arguments(model, tmp_path, "256x256", 33)
    process = engine_process(*arguments, "--json", own_group=True)
    assert process.stdout is not None
    events = events_of(process.stdout)
    next(event for event in events if event["event"] == "StageStarted" and event["stage"] == stage)
    os.killpg(process.pid, number)
    last = list(events)[-1]
    process.communicate()
    assert last["event"] == "JobCancelled"
    assert process.returncode == 130
    assert not (tmp_path / "clip.mp4").exists()
    assert not (tmp_path / "clip.mp4.part").exists()
    if stage == "decode":
        assert Path(last["latents"]).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs mount namespaces")
def test_a_full_disk_keeps_the_latents(model: Path, tmp_path: Path) -> None:
    """A disk of 48 KiB: the part fills it, the error says so in ffmpeg's words, and the latents are elsewhere."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=48k tmpfs "$0" && exec "$@"', str(disk)]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")
    arguments = [*generate_arguments(model, tmp_path, "256x256", 33)[:-1], disk / "clip.mp4", "--json"]
    command = [*mount, sys.executable, "-m", "engine", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    end = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert end["code"] == "video_writer_failed"
    assert "No space left on device" in end["details"]["last_lines"]
    assert Path(end["latents"]).exists()


def test_impossible_requests_end_with_2(model: Path, tmp_path: Path) -> None:
    base = generate_arguments(model, tmp_path)
    for extra, words in (
        (["--size", "65x48"], "Nearest: 64x48"),
        (["--frames", "31"], "Nearest: 29, 33"),
        (["--budget", "1KiB"], "the smallest needs"),
        (["--budget", "much"], "--budget"),
    ):
        done = engine(*base, *extra)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_failures_end_with_1(model: Path, tmp_path: Path) -> None:
    missing = engine("decode", tmp_path / "none.safetensors", "--model", model, "-o", tmp_path / "o.mp4")
    assert missing.returncode == 1
    assert "none.safetensors cannot be used" in missing.stderr
    no_model = engine(*generate_arguments(tmp_path / "nowhere", tmp_path))
    assert no_model.returncode == 1
    assert "nowhere" in no_model.stderr


def planned(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["plan", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_plan_for_a_program_and_for_people(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--size", "1280x720", "--frames", "61")
    plain = json.loads(planned(capsys, *size, "--json"))
    tight = json.loads(planned(capsys, *size, "--json", "--budget", "1.2GiB"))
    assert tight["predicted_peak_bytes"] <= 1.2 * 2**30 < plain["predicted_peak_bytes"]
    assert tight["strips"] > 1
    assert f"{tight['strips']} strips of {tight['strip_rows']} rows" in planned(capsys, *size, "--budget", "1.2GiB")
    own = json.loads(planned(capsys, "--size", "64x48", "--frames", "9", "--model", model, "--json"))
    assert own["predicted_peak_bytes"] < plain["predicted_peak_bytes"] / 50
    assert main(["plan", *size, "--budget", "1MiB"]) == 2
    assert "the smallest needs" in capsys.readouterr().err


OUT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from engine.cancel import CancelFlag
from engine.canvas import Canvas
from engine.commands import DecodeMode, DecodeSettings, GenerateVideo
from engine.engine import Engine
from engine.events import LatentsSaved

def emit(event):
    if isinstance(event, LatentsSaved):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 30 * 2**20,) * 2)
    last[:] = [event]

last = []
whole = DecodeSettings(DecodeMode.WHOLE, chunk_latents=9)
command = GenerateVideo("x", Path(sys.argv[2]) / "o.mp4", Path(sys.argv[1]), frames=33, steps=1, decode=whole)
Engine(Path(sys.argv[2]) / "jobs").run(command, emit, Canvas(), CancelFlag())
print(last[0].code, last[0].details, last[0].latents.exists())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_memory_that_runs_out_in_decoding(model: Path, tmp_path: Path) -> None:
    """A real refusal of the allocator: the process may grow by only 30 MiB after sampling."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, model, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.stdout.split()[0] == "out_of_memory", done.stdout + done.stderr
    assert "'stage': <Stage.DECODE: 'decode'>} True" in done.stdout


def test_sizes_follow_the_transformer_patch(command: GenerateVideo, tmp_path: Path) -> None:
    patched = dataclasses.replace(TRANSFORMER, patch_size=(1, 4, 4))
    model = build_tiny_model(tmp_path / "patch4", patched)
    end = assert_failed(Run(dataclasses.replace(command, model=model), tmp_path / "jobs")(), ErrorCode.INVALID_SIZE)
    assert end.details["multiple"] == 32
    assert end.details["nearest"] == "64x32, 64x64"
