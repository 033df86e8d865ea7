"""`python -m engine quantize`: a checkpoint made into a smaller one."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cancel import CancelFlag, Cancelled
from engine.cli_job import CANCELLED, FINISHED, cancel_on_signals
from engine.cli_words import said_bytes
from engine.weights.source import QuantFormat

if TYPE_CHECKING:  # torch takes seconds to load, which nobody should wait for to read that an option is wrong
    from engine.weights.checkpoint import Checkpoint
    from engine.weights.identify import Description

FORMS = {"fp8_scaled": QuantFormat.FP8_E4M3, "fp4_scaled": QuantFormat.NVFP4}


def add_quantize_options(parser: argparse.ArgumentParser) -> None:
    """The options of `quantize`."""
    parser.add_argument("checkpoint", type=Path, metavar="IN", help="a transformer or text encoder; a shard for all")
    parser.add_argument("--to", choices=list(FORMS), required=True, help="8 or 4.5 bits for each weight of its layers")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.safetensors")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def quantize(checkpoint: Path, to: str, output: Path, *, as_json: bool) -> int:
    """Write the checkpoint in the form `to`, a key of FORMS; returns the exit code.

    Raises MODEL_INVALID and OUTPUT_NOT_WRITABLE.
    """
    cancel = CancelFlag()
    cancel_on_signals(cancel)
    from engine.device import pick_device
    from engine.weights.containers import open_checkpoint
    from engine.weights.quantize_file import quantize_file

    stored = open_checkpoint((checkpoint.absolute(),))
    model = _identified(stored)
    progress = _Progress(len(model.sources), cancel, is_shown=not as_json and sys.stderr.isatty())
    try:
        quantize_file(stored, model.sources, FORMS[to], output.resolve(), progress.step, pick_device().torch_device)
    except Cancelled:
        return CANCELLED
    finally:
        progress.end()
    _tell(model.bytes_on_disk, output.resolve(), as_json=as_json)
    return FINISHED


def _identified(stored: "Checkpoint") -> "Description":
    """What is stored, and where. Raises MODEL_INVALID when some of it is missing."""
    from engine.weights.header import invalid
    from engine.weights.identify import identify

    def read(name: str) -> bytes:
        return stored.read(name).contiguous().flatten().numpy().tobytes()

    model = identify(stored.header, stored.metadata, stored.files[0], read)
    if model.missing:
        more = f" and {len(model.missing) - 1} more" if len(model.missing) > 1 else ""
        raise invalid(stored.files[0], f"missing: {model.missing[0]}{more}")
    return model


class _Progress:
    """How many parameters are done, over one line of a terminal."""

    def __init__(self, total: int, cancel: CancelFlag, *, is_shown: bool) -> None:
        self._total, self._cancel, self._is_shown = total, cancel, is_shown
        self._done = 0

    def step(self) -> None:
        """One more is begun. Raises Cancelled."""
        self._cancel.raise_if_set()
        self._done += 1
        if self._is_shown:
            print(f"\r{self._done}/{self._total}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Go on below the line."""
        if self._is_shown:
            print(file=sys.stderr)


def _tell(bytes_before: int, output: Path, *, as_json: bool) -> None:
    count = output.stat().st_size
    if as_json:
        print(json.dumps({"output": str(output), "bytes": count, "bytes_before": bytes_before}))
    else:
        text = f"{output}: {said_bytes(count)}, before {said_bytes(bytes_before)}"
        print(text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding))
