"""`python -m engine inspect`: what a model file is, or what is in a folder and what a whole model still lacks."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from engine.cli_words import CARD_FORMS, printable, said_bytes, sentence, some_names
from engine.weights.inspect import FileReport, FolderReport, inspect, report_fields

FINISHED = 0
LABEL_WIDTH = 12


def add_inspect_options(parser: argparse.ArgumentParser) -> None:
    """The options of `inspect`."""
    parser.add_argument("path", type=Path, metavar="FILE_OR_FOLDER", help="a checkpoint, LoRA, latents, or a folder")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def show_inspection(path: Path, *, as_json: bool) -> int:
    """Print the report on `path`; returns the exit code. Raises MODEL_INVALID and MODEL_NOT_FOUND."""
    report = inspect(path.absolute())
    if as_json:
        print(json.dumps(report_fields(report)))
    else:
        said = file_lines(report) if isinstance(report, FileReport) else folder_lines(report)
        print("\n".join(printable(line) for line in said))
    return FINISHED


def folder_lines(report: FolderReport) -> Iterator[str]:
    """The report on a folder: its files one after the other, then what cannot be used and what is missing."""
    for of in report.reports:
        yield from file_lines(of)
        yield ""
    for error in report.refused:
        yield sentence(error.code, error.details)
    yield _line("not here", ", ".join(report.missing) or "nothing")


def file_lines(report: FileReport) -> Iterator[str]:
    """The report on one checkpoint, a line for each thing."""
    model = report.model
    yield str(report.files[0]) + (f" and {len(report.files) - 1} more parts" if len(report.files) > 1 else "")
    yield _line("family", _family(report))
    yield _line("role", model.role)
    yield _line("layout", f"{model.layout} ({model.prefix})" if model.prefix else model.layout)
    for form, amount in model.quantization.items():
        yield _line("stored as", f"{form:<16} {amount.layers:>5} layers {amount.parameters:>16,} parameters")
    yield _line("parameters", f"{model.parameters:,}")
    yield _line("on disk", said_bytes(model.bytes_on_disk))
    for form, count in report.card.items():
        yield _line("on the card", f"{CARD_FORMS[form]:<16} {said_bytes(count)}")
    yield _line("missing", some_names(model.missing) or "nothing")
    yield _line("unexpected", some_names(model.unexpected) or "nothing")


def _family(report: FileReport) -> str:
    family = report.model.family
    expert = f", {family.expert}" if family.expert else ""
    either = f", or {', '.join(family.alternatives)}: only the file's name would tell" if family.alternatives else ""
    return f"{family.name}{expert}{either}"


def _line(label: str, text: str) -> str:
    return f"  {label:<{LABEL_WIDTH}} {text}"
