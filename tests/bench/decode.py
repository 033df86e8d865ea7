"""Ways to decode the same latents with the same weights, in one process and in turn: time, memory, and difference.

Every round takes each decoder once, A B C A B C, so that a machine that grows slower does so for all of them.
Progress goes to stderr, the table to stdout.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from engine.cli_words import parse_size
from engine.device import use_cpu_threads
from engine.models.video_vae import VideoVaeConfig
from tests.bench.decode_case import latent_shape, make_case
from tests.bench.decode_peers import DECODERS
from tests.bench.decode_predict import predictions
from tests.bench.decode_rounds import Rounds, note
from tests.bench.decode_table import limit_lines, markdown, report_of, report_rows, text

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def add_to(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command line."""
    parser = benchmarks.add_parser("decode", help="our decoder beside a plain one, diffusers and others")
    parser.add_argument("--size", type=parse_size, default=(512, 320), metavar="WxH")
    parser.add_argument("--frames", type=int, default=17, help="4n+1")
    parser.add_argument("--dim", type=int, default=96, help="width of the network; Wan's is 96")
    parser.add_argument("--repeats", type=int, default=3, help="timed decodes of each")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--only", nargs="+", choices=DECODERS, metavar="NAME", help=", ".join(DECODERS))
    parser.add_argument("--profile", action="store_true", help="also how much of the time convolutions take")
    parser.add_argument("--predict", action="store_true", help="decode nothing: what the planner says of usual sizes")
    parser.add_argument("--markdown", action="store_true", help="print the table for a README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, or predict, and print."""
    draw = markdown if options.markdown else text
    if options.predict:
        heading, *rows = predictions()
        print(draw([heading, *rows]))
        return write(options.json, [dict(zip(heading, row, strict=True)) for row in rows])
    report = measure(options)
    print(draw(report_rows(report)), end="\n\n")
    left_out = (f"left out: {name}, {why}" for name, why in report["left_out"].items())
    print(*left_out, *limit_lines(report), sep="\n")
    return write(options.json, report)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The report on the decoders that were asked for, or on all that are of interest on the device."""
    use_cpu_threads()
    # Short mantissas in float32 products, torch's default for convolutions on a card, would hide what is exact.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device, config = torch.device(options.device), VideoVaeConfig(dim=options.dim)
    names = options.only or [name for name, d in DECODERS.items() if device.type == "cuda" or not d.on_card_only]
    note("weights, and the exact picture")
    shape = latent_shape(config, options.size, options.frames)
    case = make_case(config, shape, DTYPES[options.dtype], device)
    rounds = Rounds(case)
    rounds.prepare(names)
    rounds.time_in_turn(options.repeats)
    if options.profile:
        rounds.profile()
    return report_of(rounds, case, options.repeats)


def write(file: Path | None, report: object) -> int:
    """Write the figures where that was asked for; the exit status."""
    if file is not None:
        file.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    return 0
