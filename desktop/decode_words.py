"""What the window says about ways to decode and their plans; pure functions for the UI thread."""

from typing import assert_never

from PySide6.QtCore import QCoreApplication

from desktop.state.decode import DecodeChoice
from desktop.state.outlook import EngineStanding
from desktop.words import byte_text, duration_text, sufficient_byte_text
from engine.commands import DecodeSettings
from engine.events import DecodeFigures, DecodePlanned

translate = QCoreApplication.translate  # under this name lupdate finds the strings

REFERENCE = "reference"  # the order of `DecodeFigures` for overlapping tiles
FRAMES_PER_LATENT = 4
ALIKE = 1.05  # ratios up to here are no difference that anybody would notice


def choice_name(choice: DecodeChoice) -> str:
    """A way to decode, as an entry of the list."""
    match choice:
        case DecodeChoice.AUTOMATIC:
            return translate("words", "Automatic")
        case DecodeChoice.WHOLE:
            return translate("words", "Whole pictures")
        case DecodeChoice.STRIPS:
            return translate("words", "Strips (exact)")
        case DecodeChoice.REFERENCE:
            return translate("words", "Reference tiles (inexact)")
        case _:
            assert_never(choice)


def choice_title(choice: DecodeChoice) -> str:
    """What the closed panel says."""
    match choice:
        case DecodeChoice.AUTOMATIC:
            return translate("words", "Decoding: automatic")
        case DecodeChoice.WHOLE:
            return translate("words", "Decoding: whole pictures")
        case DecodeChoice.STRIPS:
            return translate("words", "Decoding: strips")
        case DecodeChoice.REFERENCE:
            return translate("words", "Decoding: reference tiles")
        case _:
            assert_never(choice)


def waiting_text(standing: EngineStanding) -> str:
    """Why there is no plan yet."""
    match standing:
        case EngineStanding.LOADING:
            return translate("words", "The plan comes as soon as the engine is loaded.")
        case EngineStanding.READY:
            return translate("words", "Planning…")
        case EngineStanding.BROKEN:
            return translate("words", "There is no plan without the engine.")
        case _:
            assert_never(standing)


def no_question_text() -> str:
    """Why nothing is being planned."""
    return translate("words", "The plan comes when the settings above are possible.")


def plan_text(planned: DecodePlanned, decode: DecodeSettings) -> str:
    """How a clip will be decoded, how much memory that takes, and what the alternatives would take.

    `decode` are the settings that led to the plan, for the sides of its tiles.
    """
    sentences = (_plan_sentence(planned.plan, decode), _untiled_sentence(planned), _reference_sentence(planned))
    return " ".join(sentence for sentence in sentences if sentence)


def _plan_sentence(plan: DecodeFigures, decode: DecodeSettings) -> str:
    size = byte_text(plan.predicted_peak_bytes)
    if plan.order == REFERENCE and plan.strips == 1 and plan.ratio_to_untiled < ALIKE:
        return translate("words", "The picture fits into one tile: whole, exact, {size}.").format(size=size)
    if plan.order == REFERENCE:
        return translate("words", "Tiles of {width} × {height}, inexact, {size}, {work}.").format(
            width=decode.tiling.tile_width,
            height=decode.tiling.tile_height,
            size=size,
            work=work_text(plan.ratio_to_untiled),
        )
    if plan.strips == 1:
        return translate("words", "Whole pictures, up to {frames} at a time, exact, {size}.").format(
            frames=plan.chunk_latents * FRAMES_PER_LATENT, size=size
        )
    return translate("words", "{strips} strips of {rows} rows, exact, {size}.").format(
        strips=plan.strips, rows=plan.strip_rows, size=size
    )


def _untiled_sentence(planned: DecodePlanned) -> str:
    if planned.plan.strips == 1 and planned.plan.ratio_to_untiled < ALIKE:
        return ""
    return translate("words", "Untiled would take {size}.").format(size=byte_text(planned.untiled.predicted_peak_bytes))


def _reference_sentence(planned: DecodePlanned) -> str:
    """Nothing where the picture is smaller than a tile: such a decode is whole."""
    tiles = planned.reference
    if planned.plan.order == REFERENCE or tiles is None or tiles.ratio_to_untiled < ALIKE:
        return ""
    return translate("words", "Reference tiles: {size}, {work}, inexact.").format(
        size=byte_text(tiles.predicted_peak_bytes), work=work_text(tiles.ratio_to_untiled)
    )


def work_text(ratio: float) -> str:
    """Operations beside those of decoding whole."""
    if ratio < ALIKE:
        return translate("words", "no extra work")
    return translate("words", "{ratio} times the work").format(ratio=f"{ratio:.1f}".removesuffix(".0"))


def plan_details_text(planned: DecodePlanned) -> str:
    """What only some want to know of a plan, one fact a line."""
    plan = planned.plan
    lines = [_order_text(plan)]
    if planned.budget_bytes is not None:
        lines.append(translate("words", "Budget: {size}").format(size=byte_text(planned.budget_bytes)))
    lines.append(translate("words", "Beside it in system memory: {size}").format(size=byte_text(plan.host_bytes)))
    if plan.file_bytes:
        lines.append(translate("words", "Beside it on the disk: {size}").format(size=byte_text(plan.file_bytes)))
    return "\n".join(lines)


def _order_text(plan: DecodeFigures) -> str:
    frames = plan.chunk_latents * FRAMES_PER_LATENT
    if plan.order == REFERENCE:
        return translate("words", "Tile by tile, {rows} rows of tiles").format(rows=plan.strips)
    if plan.order == "strip_major":
        return translate("words", "Strip by strip, {frames} frames at a time").format(frames=frames)
    return translate("words", "In the order of the frames, {frames} at a time").format(frames=frames)


def measured_text(peak_bytes: int, predicted_bytes: int | None, seconds: float) -> str:
    """What the last decode took."""
    size, time = byte_text(peak_bytes), f"{seconds:.1f} s" if seconds < 60 else duration_text(seconds)
    if predicted_bytes is None:
        return translate("words", "Measured: {size}, {time}").format(size=size, time=time)
    return translate("words", "Measured: {size} of {predicted} predicted, {time}").format(
        size=size, predicted=byte_text(predicted_bytes), time=time
    )


def recut_text(strip_rows: int) -> str:
    """What became of the plan when memory ran out."""
    return translate("words", "Memory ran out: went on in strips of {rows} rows.").format(rows=strip_rows)


def too_small_text(smallest_bytes: int | None) -> str:
    """The smallest budget that works, in few words."""
    return translate("words", "{smallest} at least").format(smallest=sufficient_byte_text(smallest_bytes))
