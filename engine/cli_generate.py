"""`python -m engine generate`: its options, and the commands that they make; settings left out are the model's own."""

import argparse
from dataclasses import replace
from pathlib import Path

from engine.cli_decode import add_decode_options, decode_settings
from engine.cli_model import add_part_options, add_weight_options, parts_of
from engine.cli_words import parse_bytes, parse_size
from engine.commands import EMBEDDED_MODEL, GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.generation import AttentionBackend, Given, SamplingSettings, Solver
from engine.pictures.clips import first_frame
from engine.pictures.fit import fitted_size
from engine.pictures.read import read_picture
from engine.presets import ModelDefaults, defaults_of
from engine.sampling.validation import LARGEST_SEED, check_settings

MODEL_HELP = "a folder, or the file of a transformer; default: the embedded one"
MOST_VIDEOS = 999
ALL_PARTS = ("low_noise", "vae", "text_encoder", "tokenizer", "image_encoder")
GIVEN = {
    "first": "a picture that the video begins with",
    "last": "a picture that it ends with",
    "extend": "a clip to go on with, by its last frames",
    "restyle": "a clip to sample anew from as much noise as --strength says",
}


def add_generate_options(parser: argparse.ArgumentParser) -> None:
    """The options of `generate` that no other action has, and those of decoding."""
    parser.add_argument("prompt")
    parser.add_argument("--model", type=Path, default=EMBEDDED_MODEL, metavar="PATH", help=MODEL_HELP)
    add_part_options(parser, ALL_PARTS)
    add_weight_options(parser)
    _add_given_options(parser)
    _add_clip_options(parser)
    _add_step_options(parser)
    add_memory_options(parser)
    text = "of memory on the card for every stage of the job, e.g. 8GiB; default: most of what is free"
    parser.add_argument("--budget", type=parse_bytes, metavar="BYTES", help=text)
    add_decode_options(parser)


def _add_given_options(parser: argparse.ArgumentParser) -> None:
    for name, text in GIVEN.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=text)
    text = f"of --restyle: how much noise, 0 - 1; 1 forgets the clip; default: {Given().strength}"
    parser.add_argument("--strength", type=float, metavar="X", help=text)


def _add_clip_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--negative", metavar="TEXT", help="what the picture should not be")
    text = "default: the model's own, or what fits the first picture; other sizes are sampled larger and cut"
    parser.add_argument("--size", type=parse_size, metavar="WxH", help=text)
    parser.add_argument("--frames", type=int, help="4n+1; 1 is a still")
    parser.add_argument("--seed", type=int, default=0)
    text = "so many, one after the other, with the seeds that follow; their numbers go into the names"
    parser.add_argument("--videos", type=int, default=1, metavar="N", help=text)


def _add_step_options(parser: argparse.ArgumentParser) -> None:
    """How the way from noise to picture is walked, which no plan depends on."""
    parser.add_argument("--steps", type=int)
    text = "noise level, 0 - 1, below which the second of two transformers takes over"
    parser.add_argument("--boundary", type=float, metavar="X", help=text)
    parser.add_argument("--shift", type=float)
    parser.add_argument("--solver", type=Solver, choices=list(Solver), default=Solver.UNIPC)
    text = "noise levels of a distilled model times 1000, before the shift, e.g. 1000,750,500,250"
    parser.add_argument("--times", type=parse_times, default=(), metavar="T,T,...", help=text)
    parser.add_argument("--compile", action="store_true", help="compile the blocks for this card")


def add_memory_options(parser: argparse.ArgumentParser) -> None:
    """What a step takes in memory and time, which a plan depends on."""
    parser.add_argument("--guidance", type=float, help="1 turns guidance off")
    parser.add_argument("--guidance-low", type=float, help="of the second of two transformers")
    backends = list(AttentionBackend)
    parser.add_argument("--attention", type=AttentionBackend, choices=backends, default=AttentionBackend.SDPA)
    text = "blocks of the transformer that stay on the card; default: as many as the budget holds"
    parser.add_argument("--resident-blocks", type=int, metavar="N", help=text)
    parser.add_argument("--chunk-tokens", type=int, metavar="N", help="video tokens that go through a layer together")
    text = "take a step from the one before where the estimated error stays below, e.g. 0.05; default: never"
    parser.add_argument("--step-cache", type=float, default=0.0, metavar="X", help=text)
    parser.add_argument("--joint-guidance", action="store_true", help="both passes of guidance in one")


def parse_times(text: str) -> tuple[float, ...]:
    """Numbers with commas between. Raises ArgumentTypeError."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        wanted = "noise levels with commas between, e.g. 1000,750,500,250"
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}") from error


def generate_commands(parsed: argparse.Namespace) -> list[GenerateVideo]:
    """A command for each video that was asked for; of their seeds the largest there is comes before 0.

    Raises INVALID_SETTING, PICTURE_INVALID, and what is raised when the model's own settings cannot be read.
    """
    _check_options(parsed)
    first = generate_command(parsed)
    check_settings(first)  # before seeds that follow one out of range wrap into it
    if parsed.videos == 1:
        return [first]
    seeds = [(parsed.seed + i) % (LARGEST_SEED + 1) for i in range(parsed.videos)]
    stem = first.output.stem
    return [replace(first, seed=seed, output=first.output.with_stem(f"{stem}-{seed}")) for seed in seeds]


def _check_options(parsed: argparse.Namespace) -> None:
    """Refuse options that nothing would come of. Raises INVALID_SETTING."""
    if not 1 <= parsed.videos <= MOST_VIDEOS:
        raise _refused("--videos", parsed.videos, f"1 - {MOST_VIDEOS}")
    if parsed.strength is not None and parsed.restyle is None:
        raise _refused("--strength", parsed.strength, "none without a clip to --restyle")
    if parsed.steps is not None and parsed.times:
        raise _refused("--steps", parsed.steps, "none beside --times, which are one step each")


def _refused(name: str, value: float, allowed: str) -> EngineError:
    return EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed=allowed)


def generate_command(parsed: argparse.Namespace) -> GenerateVideo:
    """The command of the first video. Raises as `generate_commands`."""
    model = parsed.model.absolute()
    defaults = defaults_of(model, parts_of(parsed))
    width, height = parsed.size or _size(parsed, defaults)
    command = GenerateVideo(
        prompt=parsed.prompt,
        output=parsed.output.resolve(),
        model=model,
        negative_prompt=defaults.negative_prompt if parsed.negative is None else parsed.negative,
        width=width,
        height=height,
        frames=defaults.frames if parsed.frames is None else parsed.frames,
        fps=defaults.fps if parsed.fps is None else parsed.fps,
        seed=parsed.seed,
        decode=decode_settings(parsed, None),
        parts=parts_of(parsed),
        weights=parsed.weights,
        loras=tuple(parsed.lora),
        rounds_input=parsed.rounds_input,
        given=_given(parsed),
        budget_bytes=parsed.budget,
    )
    return _with_sampling(command, parsed, defaults)


def _with_sampling(command: GenerateVideo, parsed: argparse.Namespace, defaults: ModelDefaults) -> GenerateVideo:
    """The command with what the options of sampling asked for."""
    return replace(
        command,
        steps=len(parsed.times) or (defaults.steps if parsed.steps is None else parsed.steps),
        guidance=defaults.guidance if parsed.guidance is None else parsed.guidance,
        guidance_low=parsed.guidance_low,
        boundary=parsed.boundary,
        shift=defaults.shift if parsed.shift is None else parsed.shift,
        solver=parsed.solver,
        times=parsed.times,
        sampling=replace(memory_settings(parsed), compile_blocks=parsed.compile),
    )


def memory_settings(parsed: argparse.Namespace) -> SamplingSettings:
    """What `add_memory_options` asked for, without guidance."""
    return SamplingSettings(
        attention=parsed.attention,
        resident_blocks=parsed.resident_blocks,
        chunk_tokens=parsed.chunk_tokens,
        step_cache=parsed.step_cache,
        joint_guidance=parsed.joint_guidance,
    )


def _given(parsed: argparse.Namespace) -> Given:
    named = {name: getattr(parsed, name) for name in GIVEN}
    strength = Given().strength if parsed.strength is None else parsed.strength
    return Given(**{name: file.absolute() for name, file in named.items() if file is not None}, strength=strength)


def _size(parsed: argparse.Namespace, defaults: ModelDefaults) -> tuple[int, int]:
    """The model's own size, in the shape of the picture or the clip that the video is made from."""
    sizes = (defaults.width, defaults.height)
    shown = next((file for file in (parsed.first, parsed.extend, parsed.restyle) if file is not None), None)
    if shown is None:
        return sizes
    picture = read_picture(shown) if shown is parsed.first else first_frame(shown)
    height, width = picture.shape[:2]
    return fitted_size((width, height), sizes[0] * sizes[1], defaults.size_multiple, defaults.pictures.road)
