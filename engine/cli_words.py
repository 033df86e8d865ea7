"""The words of the command line: a sentence for every error code, those of its tables, and how numbers are said."""

import argparse
import math
import re
import sys
from collections.abc import Callable

from engine.errors import ErrorCode
from engine.events import LoraMatched, ProductsChosen

SENTENCES = {
    ErrorCode.INVALID_SIZE: "{width}x{height} is not a size this model can make: both sides must be multiples of "
    "{multiple}, from {smallest} to {largest}. Nearest: {nearest}.",
    ErrorCode.INVALID_FRAMES: "A clip of {frames} frames is not possible: the number must be 4n+1. Nearest: {nearest}.",
    ErrorCode.INVALID_SETTING: "{name} = {value} is not possible; allowed: {allowed}.",
    ErrorCode.MODEL_NOT_FOUND: "No complete model in {folder}; missing: {missing}.",
    ErrorCode.MODEL_INVALID: "The model file {file} cannot be used: {reason}.",
    ErrorCode.LATENTS_INVALID: "The latents {file} cannot be used: the file {reason}.",
    ErrorCode.PICTURE_INVALID: "{file} cannot be used: {reason}.",
    ErrorCode.NO_PLAN_FITS: "This does not fit into {budget_bytes}; the smallest budget that would do is "
    "{smallest_bytes}.",
    ErrorCode.OUT_OF_MEMORY: "Memory ran out in the stage '{stage}'. A smaller size, fewer frames or a smaller "
    "--budget will need less.",
    ErrorCode.OUTPUT_NOT_WRITABLE: "Cannot write {path}: {reason}.",
    ErrorCode.VIDEO_WRITER_FAILED: "Writing the video failed:\n{last_lines}",
    ErrorCode.UNEXPECTED: "Something unexpected went wrong: {reason}",
}
CARD_FORMS = {
    "bf16": "bfloat16",
    "fp8_scaled": "8-bit floats",
    "fp4_scaled": "4-bit floats",
    "as_stored": "as it is stored",
}
# What is had is said rather too small and what is needed rather too large: who asks for what was said gets it.
ROUNDINGS: dict[str, Callable[[float], int]] = {"budget_bytes": math.floor, "smallest_bytes": math.ceil}
NAMES_SHOWN = 5
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def sentence(code: ErrorCode, details: dict[str, str | int | float]) -> str:
    """The failure `code` in English, with its details; byte counts are said in GiB."""
    said = {name: _said_detail(name, value) for name, value in details.items()}
    return SENTENCES[code].format(**said) + said_refusal(details)


def _said_detail(name: str, value: str | int | float) -> str | int | float:
    return said_bytes(int(value), ROUNDINGS.get(name, round)) if name.endswith("_bytes") else value


PRODUCTS = {
    "dequantized": "with the weights' values",
    "fp8": "in 8-bit floats",
    "nvfp4": "in 4-bit floats",
}
REASONS = {
    "as_asked": "as was asked for",
    "not_asked": "exact in the input; --rounds-input is faster where the card can",
    "no_tensor_cores": "no card multiplies weights that are stored so",
    "not_nvidia": "this is not an NVIDIA card",
    "uneven_size": "the layers have sizes that tensor cores do not take",
    "older_card": "the card is too old for more",
}


# Why an attention back end, or compiling, is refused; codes of `engine.attention.availability` and `denoise.compiled`.
REFUSALS = {
    "not_offered": "no package offers it; {detail} comes nearest",
    "not_nvidia": "it needs an NVIDIA card",
    "older_card": "this card is too old for it",
    "newer_card": "it has no kernels for a card as new as this one",
    "other_card": "it has no kernels for this card",
    "wrong_dtype": "it takes only {detail}",
    "wrong_head_dim": "it takes only heads of {detail} channels",
    "package_missing": "the package {detail} is not installed",
    "package_too_old": "an older version than {detail} is installed",
    "package_broken": "its package cannot be imported: {detail}",
    "frozen": "this program is a bundle without what is compiled from",
    "other_device": "there is no compiler for this device",
    "no_triton": "triton is not installed",
    "no_compiler": "there is no C++ compiler",
    "no_headers": "the headers of Python are not installed",
}


def said_refusal(details: dict[str, str | int | float]) -> str:
    """Why a setting is refused that this machine cannot have; nothing for one that none could."""
    words = REFUSALS.get(str(details.get("reason")), "").format(detail=details.get("detail", ""))
    return f" {words[:1].upper()}{words[1:]}." if words else ""


def said_products(chosen: ProductsChosen) -> str:
    """How quantised layers are computed, and why."""
    return f"{chosen.layers} quantised layers {PRODUCTS[chosen.product]}: {REASONS[chosen.reason]}"


def said_lora(matched: LoraMatched) -> str:
    """What a model takes of a LoRA, in a line for each kind of what it does not."""
    lines = [f"{matched.path.name}: changes {matched.changed} parameters"]
    if matched.skipped:
        lines.append(f"  for other models only: {some_names(matched.skipped)}")
    if matched.unmatched:
        lines.append(f"  not understood, and not used: {some_names(matched.unmatched)}")
    return "\n".join(lines)


def some_names(names: tuple[str, ...]) -> str:
    """A few of `names`, and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return printable(", ".join(names[:NAMES_SHOWN])) + more


def printable(text: str) -> str:
    """File names, and names in files, may hold what a terminal would obey, or a pipe of this encoding cannot take."""
    seen = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return seen.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding)


def said_bytes(count: int, rounding: Callable[[float], int] = round) -> str:
    """A byte count for people, in MiB or GiB."""
    return f"{rounding(count * 100 / 2**30) / 100:.2f} GiB" if count >= 2**30 else f"{rounding(count / 2**20)} MiB"


def parse_bytes(text: str) -> int:
    """`0.5GiB`, `800 MB`, `1000000` in bytes. Raises ArgumentTypeError on anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", text.strip(), re.IGNORECASE)
    if found is None or found[2].upper() not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes, e.g. 8GiB, 512MiB or 1000000")
    return int(float(found[1]) * UNITS[found[2].upper()])


def parse_size(text: str) -> tuple[int, int]:
    """`832x480` as width and height. Raises ArgumentTypeError on anything else."""
    found = re.fullmatch(r"(\d+)[x×*](\d+)", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size, e.g. 832x480")
    return int(found[1]), int(found[2])


def said_time(seconds: float) -> str:
    """Seconds for people: `8 s`, `2:05`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"
