"""What the window says about what a video begins from; pure functions for the UI thread."""

from typing import assert_never

from PySide6.QtCore import QCoreApplication

from desktop.state.start import EXTEND, FIRST, LAST, RESTYLE, StartKind, StartRefusal, StartState, start_refusal
from desktop.state.thumbnails import Thumbnail

translate = QCoreApplication.translate  # under this name lupdate finds the strings


def start_name(kind: StartKind) -> str:
    """A way to begin, as an entry of the list."""
    match kind:
        case StartKind.TEXT:
            return translate("start", "Words alone")
        case StartKind.FIRST:
            return translate("start", "A first picture")
        case StartKind.FIRST_AND_LAST:
            return translate("start", "A first and a last picture")
        case StartKind.EXTEND:
            return translate("start", "A clip, to go on with")
        case StartKind.RESTYLE:
            return translate("start", "A clip, to restyle")
        case _:
            assert_never(kind)


def refused_start_text(refusal: StartRefusal) -> str:
    """Why the chosen model cannot begin so."""
    match refusal:
        case StartRefusal.TEXT_ALONE:
            return translate(
                "start", "This model makes videos from words alone. Models named I2V or TI2V take pictures."
            )
        case StartRefusal.NEEDS_FIRST:
            return translate("start", "This model makes no video without a first picture.")
        case StartRefusal.NEEDS_BOTH:
            return translate("start", "This model goes from a first picture to a last one, and needs both.")
        case StartRefusal.TAKES_NO_LAST:
            return translate("start", "This model knows first pictures only. Models named FLF2V take both.")
        case _:
            assert_never(refusal)


def slot_name(slot: str) -> str:
    """What is to be chosen, as a label."""
    return {
        FIRST: translate("start", "First picture"),
        LAST: translate("start", "Last picture"),
        EXTEND: translate("start", "Clip to go on with"),
        RESTYLE: translate("start", "Clip to restyle"),
    }[slot]


def missing_start_text(missing: tuple[str, ...]) -> str:
    """What has to be chosen before a video can be made; empty where nothing has."""
    if not missing:
        return ""
    return {
        FIRST: translate("start", "Choose the first picture, or drop it on the window."),
        LAST: translate("start", "Choose the last picture, or drop it on the window."),
        EXTEND: translate("start", "Choose the clip to go on with, or drop it on the window."),
        RESTYLE: translate("start", "Choose the clip to restyle, or drop it on the window."),
    }[missing[0]]


def refused_drop_text(start: StartState) -> str:
    """Why a dropped picture is of no use; a clip always is, for every model can restyle."""
    refusal = start_refusal(StartKind.FIRST, start.use)
    return "" if refusal is None else refused_start_text(refusal)


def drop_text(slot: str, file: str) -> str:
    """What dropping a picture or clip would do."""
    return {
        FIRST: translate("start", "Drop to begin with {file}"),
        LAST: translate("start", "Drop to end with {file}"),
        EXTEND: translate("start", "Drop to go on with {file}"),
        RESTYLE: translate("start", "Drop to restyle {file}"),
    }[slot].format(file=file)


def facts_text(thumbnail: Thumbnail, *, is_clip: bool, fps: int) -> str:
    """What a chosen file holds."""
    width, height = thumbnail.size
    size = f"{width} × {height}"
    if not is_clip:
        return size
    return translate("start", "{size}, {seconds} s").format(size=size, seconds=f"{thumbnail.frames / fps:.1f}")


def too_short_text(frames: int) -> str:
    """A clip that ends before the video that is to be made of it."""
    return translate("start", "The clip has only {frames} frames: make the video shorter.").format(frames=frames)


def proposal_text(size: tuple[int, int]) -> str:
    """The size that has the shape of a picture, as a button."""
    return translate("start", "Take its shape: {width} × {height}").format(width=size[0], height=size[1])
