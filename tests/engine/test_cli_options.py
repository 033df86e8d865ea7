"""From options to commands, and what is said of those that cannot become one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from engine.cli import build_parser, main, run_all
from engine.cli_decode import decode_command
from engine.cli_generate import generate_command, generate_commands
from engine.cli_job import JobTerminal
from engine.commands import (
    EMBEDDED_MODEL,
    Command,
    DecodeLatents,
    DecodeMode,
    DecodeSettings,
    GenerateVideo,
    LatentsLayout,
    LatentsSpace,
    from_json,
    to_json,
)
from engine.generation import AttentionBackend, Given, SamplingSettings, Solver
from engine.model_choice import LoraUse, ModelParts, WeightForm
from engine.pictures.fit import fitted_size
from engine.presets import defaults_of
from engine.sampling.validation import LARGEST_SEED, check_settings
from engine.weights.provenance import Expert

DECODE_OPTIONS = ["--decode-mode", "frame_major", "--strip-rows", "32", "--chunk-latents", "2", "--budget", "0.5GiB"]
DECODE_SETTINGS = DecodeSettings(DecodeMode.FRAME_MAJOR, 32, 2, 2**29)


def generated(*arguments: str | Path) -> GenerateVideo:
    return generate_command(build_parser().parse_args(["generate", *map(str, arguments)]))


def decoded(*arguments: str | Path) -> DecodeLatents:
    return decode_command(build_parser().parse_args(["decode", *map(str, arguments)]))


def test_every_option_of_generate_is_in_the_command(tiny_model: Path, tmp_path: Path) -> None:
    output = tmp_path / "star.mp4"
    own = [
        "--negative", "blurry", "--size", "96x48", "--frames", "13", "--steps", "7", "--seed", "11",
        "--guidance", "2.5", "--shift", "4.5", "--solver", "euler", "--fps", "24",
    ]  # fmt: skip
    command = generated("a star", "--model", tiny_model, "-o", output, *own, *DECODE_OPTIONS)
    assert command == GenerateVideo(
        "a star", output, tiny_model, negative_prompt="blurry", width=96, height=48, frames=13, fps=24, steps=7,
        guidance=2.5, shift=4.5, seed=11, solver=Solver.EULER, decode=replace(DECODE_SETTINGS, budget_bytes=None),
        budget_bytes=2**29,
    )  # fmt: skip


def test_pictures_and_what_makes_sampling_fit_and_fast_are_in_the_command(tiny_model: Path, tmp_path: Path) -> None:
    options = [
        "--first", "a.png", "--restyle", "b.mp4", "--strength", "0.4", "--guidance-low", "3", "--boundary", "0.9",
        "--attention", "sageattn", "--resident-blocks", "4", "--chunk-tokens", "512", "--compile",
        "--step-cache", "0.05", "--joint-guidance", "--times", "1000,500", "--size", "96x48",
    ]  # fmt: skip
    command = generated("a star", "--model", tiny_model, "-o", tmp_path / "o.mp4", *options)
    assert command.given == Given(Path("a.png").absolute(), restyle=Path("b.mp4").absolute(), strength=0.4)
    assert command.sampling == SamplingSettings(AttentionBackend.SAGEATTN, 4, 512, True, 0.05, True)
    assert (command.guidance_low, command.boundary, command.times, command.steps) == (3, 0.9, (1000, 500), 2)
    assert from_json(to_json(command)) == command


def test_several_videos_have_seeds_and_names_of_their_own(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["generate", "a star", "--model", str(tiny_model), "-o", str(tmp_path / "o.mp4"), "--seed", "7"]
    one, *more = generate_commands(build_parser().parse_args([*arguments, "--videos", "3"]))
    assert [(each.seed, each.output.name) for each in (one, *more)] == [(7, "o-7.mp4"), (8, "o-8.mp4"), (9, "o-9.mp4")]
    assert len(generate_commands(build_parser().parse_args(arguments))) == 1


def test_seeds_beyond_the_largest_begin_again_at_0(tiny_model: Path, tmp_path: Path) -> None:
    arguments = ["generate", "x", "--model", tiny_model, "-o", tmp_path / "o.mp4", "--seed", LARGEST_SEED - 1]
    commands = generate_commands(build_parser().parse_args([*map(str, arguments), "--videos", "4"]))
    assert [command.seed for command in commands] == [LARGEST_SEED - 1, LARGEST_SEED, 0, 1]
    for command in commands:
        check_settings(command)


def test_options_that_nothing_would_come_of_are_refused(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base: list[str | Path] = ["generate", "x", "--model", tiny_model, "-o", tmp_path / "o.mp4"]
    for extra, words in (
        (["--videos", "0"], "--videos = 0"),
        (["--videos", "-3"], "--videos = -3"),
        (["--videos", "1000000000"], "--videos = 1000000000"),
        (["--videos", "2", "--seed", "-1"], "seed = -1"),
        (["--videos", "2", "--seed", str(LARGEST_SEED + 1)], f"seed = {LARGEST_SEED + 1}"),
        (["--strength", "0.4"], "--strength = 0.4"),
        (["--strength", "0"], "--strength = 0"),
        (["--steps", "4", "--times", "1000,500"], "--steps = 4"),
        (["--restyle", "a.mp4", "--size", "64x48", "--strength", "0"], "above 0, up to 1"),
    ):
        out, error = refused(capsys, 2, *base, *extra)
        assert (out, error.count("\n")) == ("", 1)
        assert words in error


def test_what_cannot_be_read_is_said_with_what_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, words in (("--times", "noise levels with commas"), ("--size", "832x480"), ("--budget", "8GiB")):
        with pytest.raises(SystemExit):
            main(["generate", "x", "-o", str(tmp_path / "o.mp4"), option, "abc"])
        error = capsys.readouterr().err
        assert f"argument {option}: 'abc' is not" in error
        assert words in error


class Ends:
    """A terminal whose jobs end with these codes."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)

    def run(self, command: Command) -> int:
        return self.codes.pop(0)


@pytest.mark.parametrize(("codes", "code", "left"), [((0, 0, 0), 0, 0), ((0, 1, 0), 1, 1), ((2, 0, 0), 2, 2)])
def test_videos_after_one_that_failed_are_not_begun(
    tmp_path: Path, codes: tuple[int, ...], code: int, left: int
) -> None:
    terminal = Ends(*codes)
    assert run_all([GenerateVideo("x", tmp_path / "o.mp4")] * 3, cast(JobTerminal, terminal)) == code
    assert len(terminal.codes) == left


def test_no_jobs_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert "the folder of a job" in refused(capsys, 2, "resume", folder)[1]


def test_the_size_is_that_of_the_picture_unless_one_is_asked_for(tmp_path: Path) -> None:
    defaults = defaults_of(EMBEDDED_MODEL)
    for size in ((300, 150), (320, 240), (240, 320), (500, 500)):
        Image.new("RGB", size).save(tmp_path / "wide.png")
        command = generated("a star", "-o", tmp_path / "o.mp4", "--first", tmp_path / "wide.png")
        shown = fitted_size(size, 256 * 256, defaults.size_multiple, defaults.pictures.road)  # as in the window
        assert (command.width, command.height) == shown
    asked = generated("a star", "-o", tmp_path / "o.mp4", "--first", tmp_path / "wide.png", "--size", "256x256")
    assert (asked.width, asked.height) == (256, 256)


def test_options_left_out_are_the_models_own(tiny_model: Path, tmp_path: Path) -> None:
    commands = []
    for model in (tiny_model, EMBEDDED_MODEL):
        own = defaults_of(model)
        commands.append(generated("a star", "--model", model, "-o", tmp_path / "star.mp4"))
        assert commands[-1] == GenerateVideo(
            "a star", tmp_path / "star.mp4", model, own.negative_prompt, own.width, own.height, own.frames, own.fps,
            own.steps, own.guidance, own.shift,
        )  # fmt: skip
    assert [(command.width, command.steps, command.shift) for command in commands] == [(832, 50, 5.0), (256, 20, 3.0)]


def test_parts_weights_and_loras_are_in_the_command(tiny_model: Path, tmp_path: Path) -> None:
    """A LoRA's strength and expert stand behind its name, which may hold the same mark itself."""
    loras = [
        argument
        for text in ("a.safetensors", "b@home.safetensors@-0.5", "c.safetensors@low_noise", "d@0.8@high_noise")
        for argument in ("--lora", str(tmp_path / text))
    ]
    vae, text_encoder = tiny_model / "Wan2.1_VAE.safetensors", tiny_model / "models_t5_umt5.safetensors"
    parts: list[str | Path] = ["--vae", vae, "--text-encoder", text_encoder, "--tokenizer", tiny_model / "spiece.model"]
    command = generated("a star", "--model", tiny_model, *parts, *loras, "--weights", "fp4_scaled", "-o", "star.mp4")
    assert command.parts == ModelParts(None, vae, text_encoder, tiny_model / "spiece.model")
    assert command.weights is WeightForm.FP4_SCALED
    assert command.loras == (
        LoraUse(tmp_path / "a.safetensors"),
        LoraUse(tmp_path / "b@home.safetensors", -0.5),
        LoraUse(tmp_path / "c.safetensors", 1.0, Expert.LOW_NOISE),
        LoraUse(tmp_path / "d", 0.8, Expert.HIGH_NOISE),
    )


def test_nothing_and_zero_are_said_not_left_out(tiny_model: Path, tmp_path: Path) -> None:
    own = ["--negative", "", "--frames", "0", "--steps", "0", "--fps", "0", "--guidance", "0", "--shift", "0"]
    command = generated("a star", "--model", tiny_model, "-o", tmp_path / "star.mp4", *own)
    assert command.negative_prompt == ""
    said = (command.frames, command.steps, command.fps, command.guidance, command.shift)
    assert said == (0, 0, 0, 0, 0)


def test_every_option_of_decode_is_in_the_command(tiny_model: Path, tmp_path: Path) -> None:
    latents, output = tmp_path / "latents.safetensors", tmp_path / "again.mp4"
    own = ["--model", str(tiny_model), "--fps", "24", "--latents-layout", "frames_first", "--latents-space", "vae"]
    command = decoded(latents, "-o", output, *own, *DECODE_OPTIONS)
    layout, space = LatentsLayout.FRAMES_FIRST, LatentsSpace.VAE
    assert command == DecodeLatents(latents, output, tiny_model, 24, DECODE_SETTINGS, layout, space)


def test_decode_leaves_model_and_frame_rate_to_the_latents(tmp_path: Path) -> None:
    latents, output = tmp_path / "latents.safetensors", tmp_path / "again.mp4"
    assert decoded(latents, "-o", output) == DecodeLatents(latents, output, model=None, fps=None)


def test_relative_paths_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in a job's folder is read again from anywhere."""
    monkeypatch.chdir(tmp_path)
    command = decoded("l.safetensors", "-o", "again.mp4", "--model", "model")
    assert command == DecodeLatents(tmp_path / "l.safetensors", tmp_path / "again.mp4", tmp_path / "model")


def refused(capsys: pytest.CaptureFixture[str], exit_code: int, *arguments: str | Path) -> tuple[str, str]:
    assert main(list(map(str, arguments))) == exit_code
    out, error = capsys.readouterr()
    return out, error


def test_what_fails_before_a_job_is_told_to_programs_as_an_event(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    plan = ["plan", "--size", "65x48", "--frames", "9"]
    generate = ["generate", "x", "--model", tmp_path / "none", "-o", tmp_path / "o.mp4"]
    for arguments, exit_code, code, detail in (
        (plan, 2, "invalid_size", {"nearest": "64x48, 80x48"}),
        (generate, 1, "model_not_found", {"folder": str(tmp_path / "none")}),
    ):
        out, error = refused(capsys, exit_code, *arguments, "--json")
        event = json.loads(out)
        assert (event["event"], event["code"], event["latents"], error) == ("JobFailed", code, None, "")
        assert detail.items() <= event["details"].items()
        assert code in event["technical"]
        out, error = refused(capsys, exit_code, *arguments)
        assert out == ""
        assert all(value in error for value in detail.values())
