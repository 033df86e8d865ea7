"""The pieces of a block compiled by torch, where there is something to compile with. Engine thread.

What is compiled takes a block and a piece as arguments, so one compilation serves all blocks and all pieces: two for
each sublayer, for the first piece and for the others. The first call takes seconds; results differ by rounding.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import torch

from engine.denoise.block_pieces import BlockInPieces
from engine.errors import EngineError, ErrorCode

SUBLAYERS = ("leave_key_and_value", "attend_to_tokens", "attend_to_rows", "feed_forward")
FIRST_CARD = (7, 0)  # that Triton makes code for

Function = TypeVar("Function", bound=Callable[..., object])


class CompileReason(StrEnum):
    """Why nothing can be compiled here."""

    FROZEN = "frozen"  # the app is a bundle without the sources that are compiled from
    OTHER_DEVICE = "other_device"  # neither a CPU nor a card
    OLDER_CARD = "older_card"
    NO_TRITON = "no_triton"
    NO_COMPILER = "no_compiler"
    NO_HEADERS = "no_headers"  # of Python


def compile_reason(device: torch.device) -> str:
    """A code of `CompileReason`, empty where code can be compiled for `device`. Nothing is imported or run."""
    if getattr(sys, "frozen", False):
        return CompileReason.FROZEN
    if device.type not in ("cpu", "cuda"):
        return CompileReason.OTHER_DEVICE
    if device.type == "cuda" and (reason := _reason_of_card(device)):
        return reason
    if not _has_compiler(device):
        return CompileReason.NO_COMPILER
    return "" if (Path(sysconfig.get_path("include")) / "Python.h").is_file() else CompileReason.NO_HEADERS


def _reason_of_card(device: torch.device) -> str:
    if find_spec("triton") is None:
        return CompileReason.NO_TRITON
    return CompileReason.OLDER_CARD if torch.cuda.get_device_capability(device) < FIRST_CARD else ""


def _has_compiler(device: torch.device) -> bool:
    """Whether the compiler that torch, or Triton for a card, would call is there. Triton for Windows brings its own."""
    if device.type == "cuda":
        named = os.environ.get("CC")
        return sys.platform == "win32" or any(map(shutil.which, [named] if named else ["gcc", "clang", "cc"]))
    default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", default)) is not None


def check_compile(device: torch.device) -> None:
    """Raise INVALID_SETTING, with the reason, where nothing can be compiled for `device`."""
    if reason := compile_reason(device):
        raise EngineError(ErrorCode.INVALID_SETTING, name="compile_blocks", value=True, allowed="False", reason=reason)


def compiled(function: Function, device: torch.device) -> Function:
    """`function` compiled when it is first called, for tensors of any size. Raises INVALID_SETTING as `check_compile`.

    What the compiler raises leaves that call.
    """
    check_compile(device)
    return torch.compile(function, dynamic=True)  # type: ignore[return-value]


def compiled_pieces(device: torch.device) -> type[BlockInPieces]:
    """`BlockInPieces` with all its sublayers compiled. Raises INVALID_SETTING as `check_compile`."""
    methods = {name: compiled(getattr(BlockInPieces, name), device) for name in SUBLAYERS}
    return type("CompiledBlockInPieces", (BlockInPieces,), methods)
