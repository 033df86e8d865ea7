"""How the command line shows a job: a progress line for a terminal, or one JSON object per event."""

import dataclasses
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO, assert_never

from engine.cancel import CancelFlag
from engine.cli_words import said_bytes, said_lora, said_products, said_time, sentence
from engine.events import (
    DecodeFigures,
    DecodePlanned,
    DecodeRecut,
    Event,
    JobCancelled,
    JobFailed,
    JobFinished,
    JobPlanned,
    JobStarted,
    LatentsSaved,
    LoraMatched,
    ProductsChosen,
    SamplingKept,
    SamplingRecut,
    Stage,
    StageFinished,
    StageOutlook,
    StageProgressed,
    StageStarted,
    WeightsRead,
)

BAR_WIDTH = 24
STAGE_WORDS = {
    Stage.TEXT: "reading the prompt",
    Stage.IMAGE: "reading pictures",
    Stage.SAMPLE: "sampling",
    Stage.DECODE: "decoding",
    Stage.ENCODE: "writing the video",
}


def event_json(event: Event) -> str:
    """`event` as one line of JSON with its type's name, in ASCII: a pipe may have any encoding."""
    return json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)}, default=str)


def print_json(event: Event) -> None:
    """One line on standard output, at once, for a program that reads along."""
    sys.stdout.write(event_json(event) + "\n")
    sys.stdout.flush()


class Audience:
    """Shows events to whoever reads `stream`. Once nobody does (`| head`), it asks the job to stop and is silent."""

    def __init__(self, show: Callable[[Event], None], stream: TextIO, cancel: CancelFlag) -> None:
        self._show = show
        self._stream = stream
        self._cancel = cancel
        self._is_there = True

    def tell(self, event: Event) -> None:
        """Show `event`; never raises OSError."""
        if not self._is_there:
            return
        try:
            self._show(event)
        except OSError:  # a broken pipe; EINVAL for it on Windows, EIO for a terminal that was closed
            self._is_there = False
            self._cancel.set()
            silence(self._stream)


def silence(stream: TextIO) -> None:
    """Point `stream` at nothing: what it still holds would fail once more when the interpreter ends."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


class ProgressLine:
    """Draws the running stage over one line of a terminal; elsewhere writes one line per finished stage."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._stage_began = 0.0
        self._job_folder: Path | None = None

    def show(self, event: Event) -> None:
        """Show `event`; a job's end is told in a sentence."""
        match event:
            case StageStarted(stage=stage):
                self._stage_began = self._clock()
                self._draw(STAGE_WORDS[stage])
            case StageProgressed(stage=stage, done=done, total=total):
                self._draw(self._bar(stage, done, total))
            case LoraMatched():
                self._print(said_lora(event))
            case ProductsChosen():
                self._print(said_products(event))
            case WeightsRead(stage=stage, done_bytes=done, total_bytes=total):
                self._draw(f"{STAGE_WORDS[stage]:<20} reading {said_bytes(done)} of {said_bytes(total)}")
            case StageFinished(stage=stage, seconds=seconds, peak_bytes=peak):
                self._print(f"{STAGE_WORDS[stage]:<20} {said_time(seconds):>6}   peak {said_bytes(peak)}")
            case JobPlanned():
                self._print(describe_job(event))
            case SamplingRecut(resident_blocks=blocks, chunk_tokens=tokens):
                self._print(f"memory ran out       going on with {blocks} blocks on the card, {tokens} tokens at once")
            case SamplingKept():
                pass  # once in many steps, and nothing to do about it
            case DecodePlanned(plan=plan):
                self._print(describe_plan(plan))
            case DecodeRecut(strip_rows=rows):
                self._print(f"memory ran out       going on with strips of {rows} rows")
            case LatentsSaved(path=path):
                self._print(f"latents saved        {path}")
            case JobFinished(path=path, seconds=seconds):
                self._print(f"done in {said_time(seconds)}: {path}")
            case JobCancelled(latents=latents, kept_steps=kept):
                self._print("cancelled" if latents is None else f"cancelled; the latents are kept: {latents}")
                self._offer_to_go_on(kept if latents is None else 0)
            case JobFailed(code=code, details=details, latents=latents, kept_steps=kept):
                self._print(sentence(code, details))
                self._offer_to_go_on(kept if latents is None else 0)
                if latents is not None:
                    self._print(f'The latents are kept; try again with: python -m engine decode "{latents}" -o OUT.mp4')
            case JobStarted(job_folder=folder, width=width, height=height, frames=frames, fps=fps):
                self._job_folder = folder
                self._print(f"{width}x{height}, {frames} frames at {fps} a second")
            case _:
                assert_never(event)

    def _offer_to_go_on(self, kept_steps: int) -> None:
        if kept_steps:
            command = f'python -m engine resume "{self._job_folder}"'
            self._print(f"{kept_steps} steps are kept; go on with: {command}")

    def _bar(self, stage: Stage, done: int, total: int) -> str:
        filled = BAR_WIDTH * done // max(1, total)
        elapsed = self._clock() - self._stage_began
        left = f"  {said_time(elapsed / done * (total - done))} left" if 0 < done < total else ""
        bar = "#" * filled + "-" * (BAR_WIDTH - filled)
        return f"{STAGE_WORDS[stage]:<20} [{bar}] {done}/{total}{left}"

    def _draw(self, text: str) -> None:
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write("\r" + text[:width].ljust(width))
            self._stream.flush()

    def _print(self, text: str) -> None:
        self._draw("")
        self._stream.write(("\r" if self._is_terminal else "") + text + "\n")
        self._stream.flush()


def describe_job(planned: JobPlanned) -> str:
    """What the stages will take, which of them do not fit, and how sampling is cut."""
    cut = planned.sampling
    blocks = f"{cut.resident_blocks} of {cut.blocks} blocks on the card"
    peaks = (f"{STAGE_WORDS[stage.stage]} {said_bytes(stage.predicted_peak_bytes)}" for stage in planned.stages)
    lines = [f"predicted peaks      {', '.join(peaks)}"]
    lines += [describe_misfit(stage) for stage in planned.stages if not stage.fits]
    lines.append(f"sampling plan        {blocks}, {cut.chunk_tokens} of {cut.tokens} tokens at once")
    return "\n".join(lines)


def describe_misfit(stage: StageOutlook) -> str:
    """That a stage does not fit, and what would do."""
    budget, smallest = said_bytes(stage.budget_bytes or 0, math.floor), said_bytes(stage.smallest_bytes, math.ceil)
    return f"does not fit         {STAGE_WORDS[stage.stage]}: the budget is {budget}, {smallest} would do"


def describe_plan(plan: DecodeFigures) -> str:
    """The plan in one line."""
    cut = "whole pictures" if plan.strips == 1 else f"{plan.strips} strips of {plan.strip_rows} rows"
    order = plan.order.replace("_", "-")
    predicted = said_bytes(plan.predicted_peak_bytes)
    return f"decode plan          {order}, {cut}, {plan.chunk_latents} latents a step, peak {predicted}"


def compare_plans(planned: DecodePlanned) -> str:
    """The plan, and a row for it and for each alternative."""
    rows = {"this plan": planned.plan, "untiled": planned.untiled, "reference tiling": planned.reference}
    lines = [describe_plan(planned.plan), f"{'':<20} {'card':>10} {'host':>10} {'files':>10} {'TFLOP':>9} {'ratio':>6}"]
    for name, of in ((name, of) for name, of in rows.items() if of is not None):
        places = (of.predicted_peak_bytes, of.host_bytes, of.file_bytes)
        sizes = " ".join(f"{said_bytes(count):>10}" for count in places)
        lines.append(f"{name:<20} {sizes} {of.tflop:>9.1f} {of.ratio_to_untiled:>6.2f}")
    return "\n".join(lines)


def plan_fields(planned: DecodePlanned) -> dict[str, object]:
    """The plan's figures with the budget, and the same figures of the alternatives under their names."""
    fields = dataclasses.asdict(planned)
    return {**fields.pop("plan"), **fields}
