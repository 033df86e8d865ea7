"""The packages that attend, as facts: where their kernels run and what they take; and whether one can be used here.

Read from the packages' own sources: ``flash_attn`` 2.8 (``flash_attn_interface.py``, ``csrc/flash_attn``),
``sageattention`` 2.2 (``core.py``), ``sageattn3`` 1.0 (``api.py``, ``blackwell/api.cu``). Nothing is imported by
looking. Engine thread.
"""

import importlib.util
import re
from dataclasses import dataclass
from importlib import metadata

import torch

from engine.attention.availability import Reason

Capability = tuple[int, int]
Refusal = tuple[Reason, str]

DTYPES = (torch.float16, torch.bfloat16)
HEAD_DIMS = (64, 128)  # that all of them take: 128 in every Wan model, 64 in the embedded one


@dataclass(frozen=True, slots=True)
class Package:
    """One package. module: what is imported; name: what is installed; oldest: the first version that will do.

    cards: compute capabilities that it has kernels for. runs_on_newer: those of the last of them run on later cards
    too. needs: modules that it imports at once and that come separately.
    """

    module: str
    name: str
    oldest: str
    cards: tuple[Capability, ...]
    runs_on_newer: bool = False
    needs: tuple[str, ...] = ()


FLASH_ATTN = Package("flash_attn", "flash-attn", "2.0.0", ((8, 0),), runs_on_newer=True)
# The first version with kernels for cards of capability 12.0; it dispatches on exact capabilities.
SAGE = Package("sageattention", "sageattention", "2.1.1", ((8, 0), (8, 6), (8, 9), (9, 0), (12, 0)), needs=("triton",))
# It can be built for 10.0 as well, and then refuses to run there.
SAGE_3 = Package("sageattn3", "sageattn3", "1.0.0", ((12, 0),), needs=("triton", "fp4attn_cuda", "fp4quant_cuda"))


def refusal(package: Package, device: torch.device, dtype: torch.dtype, head_dim: int) -> Refusal | None:
    """Why `package` cannot attend to values of `dtype` on `device`, None where it can.

    The card comes before the package: nobody should install what will not run.
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return Reason.NOT_NVIDIA, ""
    return (
        _refusal_of_card(package, torch.cuda.get_device_capability(device))
        or _refusal_of_values(dtype, head_dim)
        or _refusal_of_install(package)
    )


def _refusal_of_card(package: Package, card: Capability) -> Refusal | None:
    first, last = package.cards[0], package.cards[-1]
    if card in package.cards or (card > last and package.runs_on_newer):
        return None
    named = ", ".join(f"{major}.{minor}" for major, minor in package.cards)
    if card < first:
        return Reason.OLDER_CARD, named
    return (Reason.NEWER_CARD if card > last else Reason.OTHER_CARD), named


def _refusal_of_values(dtype: torch.dtype, head_dim: int) -> Refusal | None:
    if dtype not in DTYPES:
        return Reason.WRONG_DTYPE, ", ".join(str(each).removeprefix("torch.") for each in DTYPES)
    if head_dim not in HEAD_DIMS:
        return Reason.WRONG_HEAD_DIM, ", ".join(map(str, HEAD_DIMS))
    return None


def _refusal_of_install(package: Package) -> Refusal | None:
    for module in (package.module, *package.needs):
        if importlib.util.find_spec(module) is None:
            return Reason.PACKAGE_MISSING, package.name if module == package.module else module
    try:
        version = metadata.version(package.name)
    except metadata.PackageNotFoundError:  # another package's module of the same name
        return Reason.PACKAGE_MISSING, package.name
    if _numbers(version) < _numbers(package.oldest):
        return Reason.PACKAGE_TOO_OLD, f"{package.name} {package.oldest}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))
