"""Sampling as it is cut to fit: the embedded model on a CPU, networks of the true shapes on a card. One report.

Progress goes to stderr, tables to stdout. The report is written after every figure, so that a run that is broken off
leaves what it has measured.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import torch

from engine.clip import SHARE_OF_FREE_MEMORY
from engine.commands import EMBEDDED_MODEL
from engine.device import free_host_bytes, use_cpu_threads
from engine.weights.detect import find_model
from engine.weights.load import load_transformer
from tests.bench.decode import write
from tests.bench.decode_rounds import note
from tests.bench.decode_table import machine, markdown, text
from tests.bench.generate_embedded import measure_embedded
from tests.bench.generate_networks import FORMS, MODELS
from tests.bench.generate_samples import measure_samples
from tests.bench.generate_shapes import Case, measure_case
from tests.bench.generate_step import latent_size
from tests.bench.generate_table import embedded_rows, sample_rows, shape_rows
from tests.bench.generate_ways import CPU, Cut

EMBEDDED, SAMPLES, SHAPES = PARTS = ("embedded", "samples", "shapes")
NO_CARD = "there is no CUDA card; `--device cpu` runs it on the processor, `--models tiny` in seconds"
Pixels = tuple[int, int, int]


def add_to(benchmarks: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command line."""
    parser = benchmarks.add_parser("generate", help="sampling: plain, in pieces, swapped; budgets on a card")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--size", type=parse_pixels, default=(256, 256, 33), metavar="WxHxF", help="embedded model's")
    parser.add_argument("--chunk", type=int, default=128, help="tokens of a piece, embedded model's")
    parser.add_argument("--resident", type=int, default=0, help="blocks that are not swapped, embedded model's")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of the embedded model")
    parser.add_argument("--caches", type=float, nargs="+", default=[0.02, 0.05], help="thresholds of the step cache")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="where the true shapes are run")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=("1.3B", "14B"))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS)
    parser.add_argument("--sizes", nargs="+", type=parse_pixels, default=[(832, 480, 81), (1280, 720, 81)])
    parser.add_argument("--budgets", nargs="+", type=float, default=[6, 8, 12, 16, 24], help="GiB")
    parser.add_argument("--card-repeats", type=int, default=3, help="timed steps of a cut; one of 20 s is not repeated")
    parser.add_argument("--no-peers", action="store_true", help="without diffusers")
    parser.add_argument("--markdown", action="store_true", help="print the tables for a README")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything that was measured")
    parser.set_defaults(run=run)


def parse_pixels(said: str) -> Pixels:
    """`832x480x81` as width, height and frames of whole latents. Raises ValueError on anything else."""
    found = re.fullmatch(r"(\d+)x(\d+)x(\d+)", said)
    if found is None:
        raise ValueError(f"not a size: {said!r}")
    pixels = int(found[1]), int(found[2]), int(found[3])
    latent_size(pixels)
    return pixels


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    use_cpu_threads()
    torch.backends.cuda.matmul.allow_tf32 = False  # float32 products are as exact here as in the jobs
    report: dict[str, Any] = {"machine": machine(CPU), "left_out": {}}
    if {EMBEDDED, SAMPLES} & set(options.parts):
        run_embedded(options, report)
    if SHAPES in options.parts:
        run_shapes(options, report)
    draw = markdown if options.markdown else text
    tables = ((EMBEDDED, embedded_rows), (SAMPLES, sample_rows), (SHAPES, shape_rows))
    print(*(draw(rows(report[part])) for part, rows in tables if part in report), sep="\n\n")
    print(*(f"left out: {part}, {why}" for part, why in report["left_out"].items()), sep="\n")
    return write(options.json, report)


def run_embedded(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """The embedded model, a step every way and whole samples."""
    network = load_transformer(find_model(EMBEDDED_MODEL), CPU, torch.float32)
    if EMBEDDED in options.parts:
        wanted = Cut(options.resident, options.chunk)
        report[EMBEDDED] = measure_embedded(network, options.size, wanted, options.repeats)
        write(options.json, report)
    if SAMPLES in options.parts:
        report[SAMPLES] = measure_samples(network, latent_size(options.size), options.caches)
        write(options.json, report)


def run_shapes(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """The true shapes, where they were asked to be run and can be."""
    if options.device == "cuda" and not torch.cuda.is_available():
        note(f"{SHAPES}: left out, {NO_CARD}")
        report["left_out"][SHAPES] = NO_CARD
        return
    device = torch.device(options.device)
    report["card"], report[SHAPES] = machine(device), []
    budgets, host_bytes = tuple(sorted(options.budgets)), int(SHARE_OF_FREE_MEMORY * free_host_bytes())
    for model in options.models:
        for form in options.forms:
            for pixels in options.sizes:
                case = Case(model, form, pixels, budgets, options.card_repeats, device, host_bytes)
                for found in measure_case(case, with_peers=not options.no_peers):
                    report[SHAPES].append(found)
                    write(options.json, report)
