"""What the window says about stages, memory and quantities; pure functions for the UI thread."""

import math
from typing import assert_never

from PySide6.QtCore import QCoreApplication

from engine.commands import Command, DecodeLatents
from engine.events import Stage
from engine.memory.vram import VramReason

translate = QCoreApplication.translate  # under this name lupdate finds the strings


def first_picture_text(command: Command | None) -> str:
    """What to wait for while a job has no picture yet."""
    if isinstance(command, DecodeLatents):
        return translate("words", "The first picture comes when the latents have been read.")
    return translate("words", "The first picture comes when sampling begins.")


def stage_name(stage: Stage) -> str:
    """A stage as a label."""
    match stage:
        case Stage.TEXT:
            return translate("words", "Reading prompt")
        case Stage.IMAGE:
            return translate("words", "Reading pictures")
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
        case Stage.TEXT | Stage.IMAGE:
            return ""
        case _:
            assert_never(stage)


def stage_in_sentence(stage: str | int | float | None) -> str:
    """A stage after “while”, by its code."""
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
