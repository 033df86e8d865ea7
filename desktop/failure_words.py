"""What the window says when something failed or is refused; pure functions for the UI thread.

Every failure is told in three parts: what happened, what is safe, what to do. Strings are marked for translation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from PySide6.QtCore import QCoreApplication

from desktop.state.latents_files import SUFFIXES, LatentsRefusal, is_model_place
from desktop.words import byte_text, stage_in_sentence, sufficient_byte_text
from engine.errors import EngineError, ErrorCode

translate = QCoreApplication.translate  # under this name lupdate finds the strings

Details = Mapping[str, str | int | float]
PATHS = frozenset({"path", "folder", "file"})  # details that may be longer than a sentence can bear
LONGEST_PATH = 80


@dataclass(frozen=True, slots=True)
class FailureText:
    """A failure in plain words: a short title, and what to do about it."""

    title: str
    advice: str


def failure_text(code: ErrorCode, details: Details, latents: Path | None, kept_steps: int = 0) -> FailureText:
    """The sentences for a failure; `latents` given means that the sampled result survived, else `kept_steps` of it."""
    title, advice = _failure(code, details)
    safe = ""
    if latents:
        safe = translate("words", "The sampled video is safe on disk: decode it again without sampling anew.")
    elif kept_steps:
        safe = translate("words", "What was sampled is safe on disk up to step {step}: go on from there.").format(
            step=kept_steps
        )
    return FailureText(title, " ".join(part for part in (safe, advice) if part))


def problem_text(problem: EngineError) -> str:
    """What stands in the way of a job that was not begun, in a line or two."""
    text = failure_text(problem.code, problem.details, None)
    return f"{text.title} {text.advice}"


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
        case ErrorCode.PICTURE_INVALID:
            return (
                translate("words", "The picture or clip {file} cannot be used.").format_map(_Known(details)),
                translate("words", "The reason: {reason}. Choose another one.").format_map(_Known(details)),
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
                    stage=stage_in_sentence(details.get("stage"))
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
        "attention": translate("words", "attention"),
        "resident_blocks": translate("words", "blocks on the card"),
        "chunk_tokens": translate("words", "tokens at a time"),
        "step_cache": translate("words", "step cache"),
        "strip_rows": translate("words", "rows of a strip"),
        "chunk_latents": translate("words", "frames at a time"),
        "tile_width": translate("words", "width of a tile"),
        "tile_height": translate("words", "height of a tile"),
        "stride_width": translate("words", "step to the right"),
        "stride_height": translate("words", "step down"),
    }
    return names.get(name, name)
