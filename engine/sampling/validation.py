"""What a job may ask for; torch-free, so that the window can check before it sends. Safe on any thread."""

from itertools import product

from engine.commands import GenerateVideo
from engine.errors import EngineError, ErrorCode

LARGEST_SEED = 2**63 - 1
LARGEST_FPS = 120
# Far beyond what any model was made for; further out the arithmetic itself breaks, and blames the model.
LARGEST_GUIDANCE = 100
SHIFTS = (0.01, 100)


def check_size(width: int, height: int, multiple: int) -> None:
    """Raise INVALID_SIZE with the nearest valid sizes unless both sides are positive multiples of `multiple`."""
    choices = list(product(_nearest_multiples(width, multiple), _nearest_multiples(height, multiple)))
    if (width, height) in choices:
        return
    choices.sort(key=lambda size: abs(size[0] - width) + abs(size[1] - height))
    nearest = ", ".join(f"{w}x{h}" for w, h in choices)
    raise EngineError(ErrorCode.INVALID_SIZE, width=width, height=height, multiple=multiple, nearest=nearest)


def _nearest_multiples(value: int, multiple: int) -> list[int]:
    below = max(multiple, value // multiple * multiple)
    return [below] if value <= below else [below, below + multiple]


def check_frames(frames: int, temporal_factor: int) -> None:
    """Raise INVALID_FRAMES with the nearest valid counts unless `frames` is `temporal_factor` * n + 1."""
    if frames >= 1 and (frames - 1) % temporal_factor == 0:
        return
    below = max(1, (frames - 1) // temporal_factor * temporal_factor + 1)
    nearest = f"{below}, {below + temporal_factor}" if frames > below else f"{below}"
    raise EngineError(ErrorCode.INVALID_FRAMES, frames=frames, nearest=nearest)


def check_settings(command: GenerateVideo) -> None:
    """Raise INVALID_SETTING for the first number of `command` that no sampler can use."""
    _require("steps", command.steps, "1 - 1000", 1 <= command.steps <= 1000)
    _require("guidance", command.guidance, f"0 - {LARGEST_GUIDANCE}", 0 <= command.guidance <= LARGEST_GUIDANCE)
    low, high = SHIFTS
    _require("shift", command.shift, f"{low} - {high}", low <= command.shift <= high)
    _require("seed", command.seed, f"0 - {LARGEST_SEED}", 0 <= command.seed <= LARGEST_SEED)
    check_fps(command.fps)


def check_fps(fps: int) -> None:
    """Raise INVALID_SETTING unless `fps` is a frame rate that players play."""
    _require("fps", fps, f"1 - {LARGEST_FPS}", 1 <= fps <= LARGEST_FPS)


def _require(name: str, value: float, allowed: str, valid: bool) -> None:
    if not valid:
        raise EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed=allowed)
