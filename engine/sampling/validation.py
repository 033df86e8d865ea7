"""What a job may ask for; torch-free, so that the window can check before it sends. Safe on any thread."""

from itertools import pairwise, product

from engine.commands import GenerateVideo
from engine.errors import EngineError, ErrorCode
from engine.generation import SamplingSettings
from engine.sampling.schedule import TRAINING_TIMES

LARGEST_SEED = 2**63 - 1
LARGEST_FPS = 120
# Far beyond what any model was made for; further out the arithmetic itself breaks, and blames the model.
LARGEST_GUIDANCE = 100
SHIFTS = (0.01, 100)
COLOUR_PIXELS = 2  # beside each other share their colour in an MP4, and under each other too
LARGEST_SIDE = 8192  # of which H.264 knows no level more


def check_size(width: int, height: int, multiple: int) -> None:
    """See that both sides are multiples of `multiple`, from one of it to LARGEST_SIDE.

    Raises INVALID_SIZE with the nearest valid sizes.
    """
    choices = list(product(_nearest_multiples(width, multiple), _nearest_multiples(height, multiple)))
    if (width, height) in choices:
        return
    choices.sort(key=lambda size: abs(size[0] - width) + abs(size[1] - height))
    raise _invalid_size(width, height, multiple, (multiple, LARGEST_SIDE // multiple * multiple), choices)


def _nearest_multiples(value: int, multiple: int) -> list[int]:
    most = LARGEST_SIDE // multiple * multiple
    below = min(max(multiple, value // multiple * multiple), most)
    return [below] if value <= below or below == most else [below, below + multiple]


def _invalid_size(
    width: int, height: int, multiple: int, limits: tuple[int, int], nearest: list[tuple[int, int]]
) -> EngineError:
    smallest, largest = limits
    said = ", ".join(f"{w}x{h}" for w, h in nearest)
    return EngineError(
        ErrorCode.INVALID_SIZE, width=width, height=height, multiple=multiple, nearest=said,
        smallest=smallest, largest=largest,
    )  # fmt: skip


def sampled_size(width: int, height: int, multiple: int) -> tuple[int, int]:
    """The smallest size of multiples of `multiple` that a video of `width` x `height` pixels can be cut out of.

    Raises INVALID_SIZE with the nearest that can be for a side that is odd, below one multiple, or too large.
    """
    sides = [_nearest_sides(side, multiple) for side in (width, height)]
    if width in sides[0] and height in sides[1]:
        return -(-width // multiple) * multiple, -(-height // multiple) * multiple
    raise _invalid_size(width, height, COLOUR_PIXELS, _side_limits(multiple), list(product(sides[0], sides[1])))


def _nearest_sides(side: int, multiple: int) -> list[int]:
    """The `side` itself if a video can have it, else the one or two nearest."""
    below = side // COLOUR_PIXELS * COLOUR_PIXELS
    least, most = _side_limits(multiple)
    return sorted({min(max(near, least), most) for near in (below, side + side % COLOUR_PIXELS)})


def _side_limits(multiple: int) -> tuple[int, int]:
    """The shortest and the longest side of a video that is cut out of sides of multiples of `multiple`."""
    return -(-multiple // COLOUR_PIXELS) * COLOUR_PIXELS, LARGEST_SIDE // multiple * multiple


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
    _check_experts(command)
    _check_times(command.times)
    _require("strength", command.given.strength, "above 0, up to 1", 0 < command.given.strength <= 1)
    _check_sampling(command.sampling)


def _check_experts(command: GenerateVideo) -> None:
    low, boundary = command.guidance_low, command.boundary
    if low is not None:
        _require("guidance_low", low, f"0 - {LARGEST_GUIDANCE}", 0 <= low <= LARGEST_GUIDANCE)
    if boundary is not None:
        _require("boundary", boundary, "0 - 1", 0 <= boundary <= 1)


def _check_times(times: tuple[float, ...]) -> None:
    """Times of a distilled model fall from at most 1000 and stay above 0, where the picture is."""
    falls = all(before > after for before, after in pairwise((*times, 0.0)))
    valid = not times or (falls and times[0] <= TRAINING_TIMES)
    _require("times", ", ".join(f"{time:g}" for time in times), f"{TRAINING_TIMES} > ... > 0", valid)


def _check_sampling(sampling: SamplingSettings) -> None:
    _require("step_cache", sampling.step_cache, "0 - 1", 0 <= sampling.step_cache <= 1)
    if sampling.resident_blocks is not None:
        _require("resident_blocks", sampling.resident_blocks, ">= 0", sampling.resident_blocks >= 0)
    if sampling.chunk_tokens is not None:
        _require("chunk_tokens", sampling.chunk_tokens, ">= 1", sampling.chunk_tokens >= 1)


def check_fps(fps: int) -> None:
    """Raise INVALID_SETTING unless `fps` is a frame rate that players play."""
    _require("fps", fps, f"1 - {LARGEST_FPS}", 1 <= fps <= LARGEST_FPS)


def _require(name: str, value: float | str, allowed: str, valid: bool) -> None:
    if not valid:
        raise EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed=allowed)
