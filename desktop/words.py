"""What the window says about codes and quantities; pure functions for the UI thread.

Every failure is told in three parts: what happened, what is safe, what to do. Strings are marked for translation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from PySide6.QtCore import QCoreApplication

from desktop.state.latents_files import SUFFIXES, LatentsRefusal, is_model_place
from engine.commands import Command, DecodeLatents
from engine.errors import ErrorCode
from engine.events import Stage
from engine.memory.vram import VramReason

translate = QCoreApplication.translate  # under this name lupdate finds the strings

Details = Mapping[str, str | int | float]
PATHS = frozenset({"path", "folder", "file"})  # details that may be longer than a sentence can bear
LONGEST_PATH = 80


@dataclass(frozen=True, slots=True)
class FailureText:
    """A failure in plain words: a short title, and what to do about it."""

    title: str
    advice: str


def failure_text(code: ErrorCode, details: Details, latents: Path | None) -> FailureText:
    """The sentences for a failure; `latents` given means that the sampled result survived."""
    title, advice = _failure(code, details)
    safe = (
        translate("words", "The sampled video is safe on disk: decode it again without sampling anew.")
        if latents
        else ""
    )
    return FailureText(title, " ".join(part for part in (safe, advice) if part))


def engine_failure_text() -> FailureText:
    """The sentences for an engine that could not be loaded, so that no job can run."""
    return FailureText(
        translate("words", "The engine could not be started, so no video can be made."),
        translate("words", "Part of it is missing, or it does not fit this computer. Install Tessera again."),
    )


def _failure(code: ErrorCode, details: Details) -> tuple[str, str]:
    match code:
        case ErrorCode.INVALID_SIZE:
            return (
                translate("words", "{width} × {height} is not a size that this model can make.").format_map(
                    _Known(details)
                ),
                translate("words", "Nearest sizes: {nearest}.").format(
                    nearest=str(details.get("nearest", "?")).replace("x", " × ")
                ),
            )
        case ErrorCode.INVALID_FRAMES:
            return (
                translate("words", "This model cannot make {frames} frames.").format_map(_Known(details)),
                translate("words", "Nearest numbers: {nearest}.").format_map(_Known(details)),
            )
        case ErrorCode.INVALID_SETTING:
            return (
                translate("words", "{value} is not possible for “{name}”.").format_map(
                    _Known({**details, "name": setting_name(str(details.get("name", "?")))})
                ),
                translate("words", "Allowed: {allowed}.").format_map(_Known(details)),
            )
        case ErrorCode.MODEL_NOT_FOUND:
            return (
                translate("words", "The model is not complete: {missing} is missing.").format_map(_Known(details)),
                translate("words", "Put the missing files into {folder}, or choose another model.").format_map(
                    _Known(details)
                ),
            )
        case ErrorCode.MODEL_INVALID:
            return (
                translate("words", "The model file {file} cannot be used.").format_map(_Known(details)),
                translate("words", "It may be damaged or of another kind. Copy it again from where you got it."),
            )
        case ErrorCode.LATENTS_INVALID:
            return (
                translate("words", "The latents {file} cannot be decoded.").format_map(_Known(details)),
                translate(
                    "words", "The file {reason}. A damaged one cannot be repaired: generate its video again."
                ).format_map(_Known(details)),
            )
        case ErrorCode.NO_PLAN_FITS:
            return (
                translate("words", "This video does not fit into a memory budget of {budget}.").format(
                    budget=byte_text(details.get("budget_bytes"))
                ),
                translate(
                    "words", "The smallest budget that works is {smallest}. Allow that much, or make the video smaller."
                ).format(smallest=sufficient_byte_text(details.get("smallest_bytes"))),
            )
        case ErrorCode.OUT_OF_MEMORY:
            return (
                translate("words", "The memory ran out while {stage}.").format(
                    stage=_stage_in_sentence(details.get("stage"))
                ),
                translate(
                    "words",
                    "Close other programs that use the graphics card, or choose a smaller size or fewer frames.",
                ),
            )
        case ErrorCode.OUTPUT_NOT_WRITABLE:
            return (
                translate("words", "The video cannot be saved to {path}: {reason}.").format_map(_Known(details)),
                translate(
                    "words", "Check that the folder exists, that you may write to it and that the disk is not full."
                ),
            )
        case ErrorCode.VIDEO_WRITER_FAILED:
            return (
                translate("words", "The video file could not be written."),
                translate(
                    "words", "Most often the disk is full. Make room and try again. The technical text says more."
                ),
            )
        case ErrorCode.UNEXPECTED:
            return (
                translate("words", "Something went wrong that should not have."),
                translate("words", "Try again. If it happens twice, the technical text helps to find out why."),
            )
        case _:
            assert_never(code)


def interrupted_text(count: int) -> FailureText:
    """The sentences for videos whose job was killed after sampling; `count` is at least one."""
    if count == 1:
        title = translate("words", "A video was sampled but not saved when Tessera was closed.")
    else:
        title = translate("words", "{count} videos were sampled but not saved when Tessera was closed.").format(
            count=count
        )
    return FailureText(title, translate("words", "What was sampled is safe on disk and only has to be decoded."))


def refusal_text(refusal: LatentsRefusal) -> FailureText:
    """The sentences for files that were dropped on the window and are not opened."""
    match refusal:
        case LatentsRefusal.SEVERAL:
            return FailureText(
                translate("words", "Only one file of latents can be opened at a time."),
                translate("words", "Drop them one after the other."),
            )
        case LatentsRefusal.OTHER_KIND:
            return FailureText(
                translate("words", "This is not a file of latents."),
                translate("words", "Latents have names that end in {suffixes}.").format(suffixes=", ".join(SUFFIXES)),
            )
        case _:
            assert_never(refusal)


def drop_hint_text(file: Path, refusal: LatentsRefusal | None) -> str:
    """What dropping the dragged files would do; `file` is the first of them."""
    if refusal is not None:
        return refusal_text(refusal).title
    if is_model_place(file):
        return translate("words", "Drop to look for models in {file}").format(file=_shortened(file.name))
    return translate("words", "Drop to open {file}").format(file=_shortened(file.name))


def first_picture_text(command: Command | None) -> str:
    """What to wait for while a job has no picture yet."""
    if isinstance(command, DecodeLatents):
        return translate("words", "The first picture comes when the latents have been read.")
    return translate("words", "The first picture comes when sampling begins.")


class _Known(dict[str, str | int | float]):
    """Details by name; a detail that an engine did not send reads as "?" instead of hiding the whole message."""

    def __init__(self, details: Details) -> None:
        super().__init__(details)
        self.update({name: _shortened(str(details[name])) for name in PATHS & details.keys()})

    def __missing__(self, name: str) -> str:
        return "?"


def _shortened(path: str) -> str:
    """A long path without its middle; the technical text has it whole."""
    if len(path) <= LONGEST_PATH:
        return path
    half = LONGEST_PATH // 2
    return f"{path[: half - 1]}…{path[-half:]}"


def setting_name(name: str) -> str:
    """A setting of the engine as its field is called; one without a field keeps its own name."""
    names = {
        "strip_rows": translate("words", "rows of a strip"),
        "chunk_latents": translate("words", "frames at a time"),
        "tile_width": translate("words", "width of a tile"),
        "tile_height": translate("words", "height of a tile"),
        "stride_width": translate("words", "step to the right"),
        "stride_height": translate("words", "step down"),
    }
    return names.get(name, name)


def stage_name(stage: Stage) -> str:
    """A stage as a label."""
    match stage:
        case Stage.LOAD:
            return translate("words", "Loading")
        case Stage.TEXT:
            return translate("words", "Reading prompt")
        case Stage.SAMPLE:
            return translate("words", "Sampling")
        case Stage.DECODE:
            return translate("words", "Decoding")
        case Stage.ENCODE:
            return translate("words", "Saving")
        case _:
            assert_never(stage)


def stage_unit(stage: Stage, done: int, total: int) -> str:
    """How far a stage is, in its own unit; empty where the unit would tell nobody anything."""
    match stage:
        case Stage.SAMPLE:
            return translate("words", "step {done} of {total}").format(done=done, total=total)
        case Stage.DECODE:
            return translate("words", "strip {done} of {total}").format(done=done, total=total)
        case Stage.ENCODE:
            return translate("words", "frame {done} of {total}").format(done=done, total=total)
        case Stage.LOAD | Stage.TEXT:
            return ""
        case _:
            assert_never(stage)


def _stage_in_sentence(stage: str | int | float | None) -> str:
    return (
        stage_name(Stage(stage)).lower() if stage in [each.value for each in Stage] else translate("words", "working")
    )


def no_card_text(reason: VramReason) -> str:
    """Why the gauge shows the system's memory instead of a card's."""
    match reason:
        case VramReason.NO_DRIVER:
            return translate("words", "No NVIDIA driver found.")
        case VramReason.NO_CARD:
            return translate("words", "No NVIDIA card to use.")
        case VramReason.NOT_USED:
            return translate("words", "This installation does not use the NVIDIA card.")
        case VramReason.DRIVER_MISMATCH:
            return translate("words", "The NVIDIA driver was updated. Restart the computer to see the card.")
        case VramReason.NO_PERMISSION:
            return translate("words", "The NVIDIA driver does not let this program see the card.")
        case VramReason.CARD_LOST:
            return translate("words", "The graphics card stopped answering. Restart the computer.")
        case VramReason.DRIVER_ERROR:
            return translate("words", "The NVIDIA driver reports an error. Showing the system’s memory.")
        case _:
            assert_never(reason)


def byte_text(size: str | int | float | None) -> str:
    """Bytes for people: 7.5 GB and 480 MB, in the binary units that graphics cards are sold in; n/a when unknown."""
    if size is None:
        return translate("words", "n/a")
    mebibytes = float(size) / (1 << 20)
    if mebibytes < 1000:
        return translate("words", "{size} MB").format(
            size=f"{mebibytes:.0f}" if mebibytes >= 10 else f"{mebibytes:.1f}"
        )
    gibibytes = mebibytes / 1024
    return translate("words", "{size} GB").format(size=f"{gibibytes:.1f}" if gibibytes < 100 else f"{gibibytes:.0f}")


def sufficient_byte_text(size: str | int | float | None) -> str:
    """Bytes rounded up, so that a person who types what is said has enough."""
    if size is None:
        return byte_text(None)
    mebibytes = math.ceil(float(size) / (1 << 20))
    return byte_text((mebibytes if mebibytes < 1000 else math.ceil(mebibytes / 102.4) * 102.4) * (1 << 20))


def duration_text(seconds: float) -> str:
    """Seconds for people: 8 s, 2 min 5 s, 1 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return translate("words", "{seconds} s").format(seconds=whole)
    if whole < 3600:
        return translate("words", "{minutes} min {seconds} s").format(minutes=whole // 60, seconds=whole % 60)
    return translate("words", "{hours} h {minutes} min").format(hours=whole // 3600, minutes=whole % 3600 // 60)
