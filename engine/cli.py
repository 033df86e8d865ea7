"""`python -m engine`: generate, decode, resume, plan, inspect and quantize from a terminal or a script.

Exit codes: 0 the job finished; 1 it failed; 2 it was asked for something impossible (also argparse's own code);
130 it was cancelled: by Ctrl+C, a request to end, or because nobody reads what it says any more. `resume` runs
several jobs, and ends with the highest of their codes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.cli_events import compare_plans, plan_fields, print_json
from engine.cli_inspect import add_inspect_options, show_inspection
from engine.cli_job import FINISHED, JobTerminal, exit_code_of
from engine.cli_model import add_part_options, add_weight_options, parts_of
from engine.cli_quantize import add_quantize_options, quantize
from engine.cli_resume import add_resume_options, resume
from engine.cli_words import parse_bytes, parse_size, sentence
from engine.commands import (
    EMBEDDED_MODEL,
    DecodeLatents,
    DecodeMode,
    DecodeSettings,
    GenerateVideo,
    LatentsLayout,
    LatentsSpace,
    Solver,
)
from engine.decode.tiling import ReferenceTiling
from engine.errors import EngineError
from engine.events import JobFailed
from engine.presets import defaults_of

MODEL_HELP = "a folder, or the file of a transformer; default: the embedded one"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    parsed = build_parser().parse_args(arguments)
    try:
        if parsed.action == "plan":
            return show_plan(parsed)
        if parsed.action == "inspect":
            return show_inspection(parsed.path, as_json=parsed.json)
        if parsed.action == "quantize":
            return quantize(parsed.checkpoint, parsed.to, parsed.output, as_json=parsed.json)
        if parsed.action == "resume":
            return resume(parsed.jobs, only_list=parsed.list, forget=parsed.forget, as_json=parsed.json)
        command = generate_command(parsed) if parsed.action == "generate" else decode_command(parsed)
    except EngineError as error:
        return refuse(error, as_json=parsed.json)
    return JobTerminal(parsed.jobs, as_json=parsed.json).run(command)


def build_parser() -> argparse.ArgumentParser:
    """The six commands with their options; settings left out are the model's own."""
    parser = argparse.ArgumentParser(prog="python -m engine", description="Video from Wan models in bounded memory.")
    actions = parser.add_subparsers(dest="action", required=True)
    generate = actions.add_parser("generate", help="a prompt to an MP4")
    generate.add_argument("prompt")
    generate.add_argument("--model", type=Path, default=EMBEDDED_MODEL, metavar="PATH", help=MODEL_HELP)
    add_part_options(generate, ("low_noise", "vae", "text_encoder", "tokenizer", "image_encoder"))
    add_weight_options(generate)
    _add_sampling_options(generate)
    decode = actions.add_parser("decode", help="latents of a job or of another program to an MP4")
    decode.add_argument("latents", type=Path, help=".safetensors, .latent, .pth or .pt, one clip")
    decode.add_argument("--model", type=Path, metavar="PATH", help="default: that of the job, else the embedded one")
    add_part_options(decode, ("vae",))
    _add_latents_options(decode)
    for action in (generate, decode):
        _add_job_options(action)
        _add_decode_options(action)
    add_resume_options(actions.add_parser("resume", help="make the videos of jobs that were killed after sampling"))
    _add_plan_options(actions.add_parser("plan", help="how a clip would be decoded, and in how much memory"))
    add_inspect_options(actions.add_parser("inspect", help="what a model file or folder is, and what it lacks"))
    add_quantize_options(actions.add_parser("quantize", help="a checkpoint made into a smaller one"))
    return parser


def _add_sampling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--negative", metavar="TEXT", help="what the picture should not be")
    parser.add_argument("--size", type=parse_size, metavar="WxH")
    parser.add_argument("--frames", type=int, help="4n+1")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guidance", type=float, help="1 turns guidance off")
    parser.add_argument("--shift", type=float)
    parser.add_argument("--solver", type=Solver, choices=list(Solver), default=Solver.UNIPC)


def _add_latents_options(parser: argparse.ArgumentParser) -> None:
    for name, choices, help_text in (
        ("layout", LatentsLayout, "which axis comes first; default: by format, the VAE's channels, then the values"),
        ("space", LatentsSpace, "normalised, or as the VAE takes them; default: vae for ComfyUI's names, else model"),
    ):
        automatic = choices("automatic")
        parser.add_argument(f"--latents-{name}", type=choices, choices=list(choices), default=automatic, help=help_text)


def _add_job_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.mp4")
    parser.add_argument("--fps", type=int)
    parser.add_argument("--jobs", type=Path, metavar="DIR", help="where latents are kept")
    parser.add_argument("--json", action="store_true", help="one JSON object per event on standard output")


def _add_decode_options(parser: argparse.ArgumentParser) -> None:
    mode = DecodeMode.AUTOMATIC
    parser.add_argument("--decode-mode", type=DecodeMode, choices=list(DecodeMode), default=mode)
    parser.add_argument("--strip-rows", type=int, metavar="N", help="output rows of one strip")
    parser.add_argument("--chunk-latents", type=int, metavar="N", help="latent frames of one step")
    parser.add_argument("--budget", type=parse_bytes, metavar="BYTES", help="for decoding, e.g. 0.5GiB")
    tiles = ReferenceTiling()
    for option, width, height in (
        ("--tile", tiles.tile_width, tiles.tile_height),
        ("--tile-stride", tiles.stride_width, tiles.stride_height),
    ):
        text = f"of the mode reference, in pixels; default {width}x{height}"
        parser.add_argument(option, type=parse_size, metavar="WxH", default=(width, height), help=text)


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=parse_size, required=True, metavar="WxH")
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: the VAE of Wan 2.1")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--json", action="store_true")
    _add_decode_options(parser)


def generate_command(parsed: argparse.Namespace) -> GenerateVideo:
    """The command of `generate`. Raises EngineError when the model's own settings cannot be read."""
    model = parsed.model.absolute()
    defaults = defaults_of(model, parts_of(parsed))
    width, height = parsed.size or (defaults.width, defaults.height)
    return GenerateVideo(
        prompt=parsed.prompt,
        output=parsed.output.resolve(),
        model=model,
        negative_prompt=defaults.negative_prompt if parsed.negative is None else parsed.negative,
        width=width,
        height=height,
        frames=defaults.frames if parsed.frames is None else parsed.frames,
        fps=defaults.fps if parsed.fps is None else parsed.fps,
        steps=defaults.steps if parsed.steps is None else parsed.steps,
        guidance=defaults.guidance if parsed.guidance is None else parsed.guidance,
        shift=defaults.shift if parsed.shift is None else parsed.shift,
        seed=parsed.seed,
        solver=parsed.solver,
        decode=decode_settings(parsed),
        parts=parts_of(parsed),
        weights=parsed.weights,
        loras=tuple(parsed.lora),
        rounds_input=parsed.rounds_input,
    )


def decode_command(parsed: argparse.Namespace) -> DecodeLatents:
    """The command of `decode`."""
    return DecodeLatents(
        latents=parsed.latents.resolve(),
        output=parsed.output.resolve(),
        model=None if parsed.model is None else parsed.model.absolute(),
        fps=parsed.fps,
        decode=decode_settings(parsed),
        layout=parsed.latents_layout,
        space=parsed.latents_space,
        parts=parts_of(parsed),
    )


def decode_settings(parsed: argparse.Namespace) -> DecodeSettings:
    """The options that `generate`, `decode` and `plan` share."""
    (width, height), (stride_width, stride_height) = parsed.tile, parsed.tile_stride
    tiling = ReferenceTiling(height, width, stride_height, stride_width)
    return DecodeSettings(parsed.decode_mode, parsed.strip_rows, parsed.chunk_latents, parsed.budget, tiling)


def show_plan(parsed: argparse.Namespace) -> int:
    """Print the plan of `plan`. Raises NO_PLAN_FITS, INVALID_SIZE and INVALID_FRAMES."""
    import torch  # takes seconds, which nobody should wait for to read that an option is wrong

    from engine.clip import plan_for

    dtype = getattr(torch, parsed.dtype)
    planned = plan_for(parsed.model, parsed.size, parsed.frames, dtype, decode_settings(parsed))
    print(json.dumps(plan_fields(planned)) if parsed.json else compare_plans(planned))
    return FINISHED


def refuse(error: EngineError, *, as_json: bool) -> int:
    """Tell of what failed before a job began as its end would be told; returns the exit code."""
    if as_json:
        print_json(JobFailed(error.code, error.details, str(error)))
    else:
        print(sentence(error.code, error.details), file=sys.stderr)
    return exit_code_of(error.code)
