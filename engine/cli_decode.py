"""Options of a command line about decoding, and `python -m engine decode` itself; torch-free."""

import argparse
from pathlib import Path

from engine.cli_model import add_part_options, parts_of
from engine.cli_words import parse_bytes, parse_size
from engine.commands import DecodeLatents, DecodeMode, DecodeSettings, LatentsLayout, LatentsSpace
from engine.decode.tiling import ReferenceTiling


def add_decode_action(parser: argparse.ArgumentParser) -> None:
    """The options of `decode`."""
    parser.add_argument("latents", type=Path, help=".safetensors, .latent, .pth or .pt, one clip")
    parser.add_argument("--model", type=Path, metavar="PATH", help="default: that of the job, else the embedded one")
    add_part_options(parser, ("vae",))
    for name, choices, help_text in (
        ("layout", LatentsLayout, "which axis comes first; default: by format, the VAE's channels, then the values"),
        ("space", LatentsSpace, "normalised, or as the VAE takes them; default: vae for ComfyUI's names, else model"),
    ):
        automatic = choices("automatic")
        parser.add_argument(f"--latents-{name}", type=choices, choices=list(choices), default=automatic, help=help_text)
    parser.add_argument("--budget", type=parse_bytes, metavar="BYTES", help="for decoding, e.g. 0.5GiB")
    add_decode_options(parser)


def add_decode_options(parser: argparse.ArgumentParser) -> None:
    """How a decode is cut."""
    mode = DecodeMode.AUTOMATIC
    parser.add_argument("--decode-mode", type=DecodeMode, choices=list(DecodeMode), default=mode)
    parser.add_argument("--strip-rows", type=int, metavar="N", help="output rows of one strip")
    parser.add_argument("--chunk-latents", type=int, metavar="N", help="latent frames of one step")
    tiles = ReferenceTiling()
    for option, width, height in (
        ("--tile", tiles.tile_width, tiles.tile_height),
        ("--tile-stride", tiles.stride_width, tiles.stride_height),
    ):
        text = f"of the mode reference, in pixels; default {width}x{height}"
        parser.add_argument(option, type=parse_size, metavar="WxH", default=(width, height), help=text)


def decode_settings(parsed: argparse.Namespace, budget_bytes: int | None) -> DecodeSettings:
    """What `add_decode_options` asked for, within a budget of the decode's own."""
    (width, height), (stride_width, stride_height) = parsed.tile, parsed.tile_stride
    tiling = ReferenceTiling(height, width, stride_height, stride_width)
    return DecodeSettings(parsed.decode_mode, parsed.strip_rows, parsed.chunk_latents, budget_bytes, tiling)


def decode_command(parsed: argparse.Namespace) -> DecodeLatents:
    """The command of `decode`."""
    return DecodeLatents(
        latents=parsed.latents.resolve(),
        output=parsed.output.resolve(),
        model=None if parsed.model is None else parsed.model.absolute(),
        fps=parsed.fps,
        decode=decode_settings(parsed, parsed.budget),
        layout=parsed.latents_layout,
        space=parsed.latents_space,
        parts=parts_of(parsed),
    )
