"""How a video is sampled beyond prompt and size: what it starts from, what makes it fit and fast. Torch-free, frozen.

Part of a command: everything here matters to the result or to what the result takes, and is stored with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

NO_GUIDANCE = 1.0  # without a second pass of the network


class Solver(StrEnum):
    """Which integrator walks from noise to picture."""

    UNIPC = "unipc"
    EULER = "euler"
    DPMPP_2M = "dpmpp_2m"
    LCM = "lcm"


class AttentionBackend(StrEnum):
    """What computes the attention of video tokens to each other. SDPA is torch's own, and always there."""

    SDPA = "sdpa"
    FLASH_ATTN = "flash_attn"
    SAGEATTN = "sageattn"
    SAGEATTN_3 = "sageattn_3"
    SAGEATTN_3_FP8 = "sageattn_3_fp8"
    SAGEATTN_3_FP4 = "sageattn_3_fp4"


@dataclass(frozen=True, slots=True)
class Given:
    """Pictures and clips that a video is made from; all None for text alone.

    first, last: pictures that the video begins and ends with. extend: a clip that is gone on with by its last
    frames. restyle: a clip that is noised up to `strength` (0..1, 1 forgets it) and sampled from there.
    """

    first: Path | None = None
    last: Path | None = None
    extend: Path | None = None
    restyle: Path | None = None
    strength: float = 0.7


@dataclass(frozen=True, slots=True)
class SamplingSettings:
    """How sampling is fitted into memory and made fast; None leaves a value to the planner.

    resident_blocks: blocks of the transformer that stay on the card, the others are copied there for each pass.
    chunk_tokens: video tokens that go through a layer together. compile_blocks: blocks are compiled for the card.
    step_cache: the estimated relative error up to which a step may be taken from the one before, 0 for never.
    joint_guidance: both passes of guidance as one of twice the size.
    """

    attention: AttentionBackend = AttentionBackend.SDPA
    resident_blocks: int | None = None
    chunk_tokens: int | None = None
    compile_blocks: bool = False
    step_cache: float = 0.0
    joint_guidance: bool = False


def given_from(stated: Mapping[str, Any]) -> Given:
    """What a stored command started from. Raises TypeError for what is not known."""
    fields = dict(stated)
    strength = float(fields.pop("strength", Given().strength))
    return Given(**{name: None if file is None else Path(file) for name, file in fields.items()}, strength=strength)


def sampling_from(stated: Mapping[str, Any]) -> SamplingSettings:
    """The settings of a stored command. Raises TypeError and ValueError for what is not known."""
    attention = AttentionBackend(stated.get("attention", AttentionBackend.SDPA))
    return SamplingSettings(**{**stated, "attention": attention})
