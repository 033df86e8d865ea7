"""Settings proposed for a card of a size, and recipes of distilled models; torch-free, safe on any thread."""

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.attention.availability import best_available
from engine.commands import BackendState
from engine.generation import AttentionBackend, Solver
from engine.model_choice import WeightForm
from engine.presets import PRESETS_FILE, ModelDefaults

GIB = 1 << 30
COUNTED_BLOCKS = 40  # that `swapped` speaks of, those of the 14B models
NO_CARD = "none"
LARGE_AREA = 1280 * 704  # of the smallest size that counts as 720 rows, that of Wan 2.2 5B


@dataclass(frozen=True, slots=True)
class CardPreset:
    """What is proposed for cards from `from_gb` on and below `below_gb`; None is no card, and no end.

    attention: in the order of preference. swapped: blocks of 40 that wait off the card at the lesser and at the greater
    number of `frames`. size, frames: None leaves them to the model.
    """

    name: str
    from_gb: int | None
    below_gb: int | None
    attention: tuple[AttentionBackend, ...]
    weights: WeightForm
    swapped: tuple[int, int]
    size: tuple[int, int] | None
    frames: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class PresetSettings:
    """What a preset comes to on one machine with one model.

    attention is the best that is available; `passed_over` are those that the preset would rather have, with why they
    cannot be had. resident_blocks None leaves them to the planner.
    """

    attention: AttentionBackend
    passed_over: tuple[BackendState, ...]
    weights: WeightForm
    resident_blocks: int | None
    width: int
    height: int
    frames: int


@dataclass(frozen=True, slots=True)
class DistilledRecipe:
    """How a model that was distilled to few steps is sampled; `times` as in `GenerateVideo`."""

    name: str
    times: tuple[float, ...]
    shift: float
    guidance: float
    solver: Solver


def card_preset(total_bytes: int | None) -> CardPreset:
    """The preset for a card of `total_bytes`, None for no card.

    Drivers tell some megabytes less than a card is sold with, so the size is that of the nearest whole GB.
    """
    presets = card_presets()
    if total_bytes is None:
        return next(preset for preset in presets if preset.name == NO_CARD)
    size_gb = round(total_bytes / GIB)
    return next(each for each in reversed(presets) if each.from_gb is not None and each.from_gb <= size_gb)


@cache
def card_presets(file: Path = PRESETS_FILE) -> tuple[CardPreset, ...]:
    """All of them, that for no card first and then from small cards to large ones."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(file.read_text("utf-8"))["cards"]
    bounds = sorted(table["from_gb"] for table in tables.values() if "from_gb" in table)
    ends = dict(zip(bounds, [*bounds[1:], None], strict=True))
    presets = (_preset(name, table, ends.get(table.get("from_gb", -1))) for name, table in tables.items())
    return tuple(sorted(presets, key=lambda preset: -1 if preset.from_gb is None else preset.from_gb))


@cache
def distilled_recipes(file: Path = PRESETS_FILE) -> tuple[DistilledRecipe, ...]:
    """All of them, in the order of the file."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(file.read_text("utf-8"))["distilled"]
    return tuple(_recipe(name, table) for name, table in tables.items())


def settings_of(
    preset: CardPreset,
    states: tuple[BackendState, ...],
    defaults: ModelDefaults,
    *,
    blocks: int | None,
    forms: Collection[WeightForm] = (WeightForm.STORED,),
) -> PresetSettings:
    """What `preset` comes to where the attention back ends are as in `states`, for a model of so many `blocks`.

    forms: those that the model can be given with gain; in any other form it is left as stored. A size that the model
    is too small for is not proposed: one trained for 480 rows makes no 720.
    """
    width, height, frames = _clip_for(preset, defaults)
    attention = best_available(preset.attention, states)
    return PresetSettings(
        attention=attention,
        passed_over=tuple(_passed_over(preset, states, attention)),
        weights=preset.weights if preset.weights in forms else WeightForm.STORED,
        resident_blocks=None if blocks is None else resident_blocks(preset, blocks, frames),
        width=width,
        height=height,
        frames=frames,
    )


def resident_blocks(preset: CardPreset, blocks: int, frames: int) -> int:
    """How many of `blocks` stay on the card; a longer video leaves less room for them."""
    least, most = preset.swapped
    few, many = preset.frames or (frames, frames + 1)
    share = min(max((frames - few) / (many - few), 0.0), 1.0)
    return blocks - round((least + (most - least) * share) / COUNTED_BLOCKS * blocks)


def _passed_over(
    preset: CardPreset, states: tuple[BackendState, ...], taken: AttentionBackend
) -> Iterator[BackendState]:
    by_backend = {state.backend: state for state in states}
    for backend in preset.attention[: preset.attention.index(taken)]:
        yield by_backend.get(backend, BackendState(backend, is_available=False))


def _clip_for(preset: CardPreset, defaults: ModelDefaults) -> tuple[int, int, int]:
    """Width, height and frames: those proposed, for a model that was trained on as much or on 720 rows."""
    own = defaults.width, defaults.height, defaults.frames
    if preset.size is None or preset.frames is None:
        return own
    width, height = preset.size
    largest = max(w * h for w, h in defaults.sizes)
    if largest < min(width * height, LARGE_AREA):
        return own
    return width, height, min(max(defaults.frames, preset.frames[0]), preset.frames[1])


def _preset(name: str, table: Mapping[str, Any], below_gb: int | None) -> CardPreset:
    return CardPreset(
        name=name,
        from_gb=table.get("from_gb"),
        below_gb=below_gb,
        attention=tuple(map(AttentionBackend, table["attention"])),
        weights=WeightForm(table["weights"]),
        swapped=_pair(table["swapped"]),
        size=_pair(map(int, table["size"].split("x"))) if "size" in table else None,
        frames=_pair(table["frames"]) if "frames" in table else None,
    )


def _pair(values: Iterable[int]) -> tuple[int, int]:
    first, second = values
    return first, second


def _recipe(name: str, table: Mapping[str, Any]) -> DistilledRecipe:
    times = tuple(map(float, table["times"]))
    return DistilledRecipe(name, times, table["shift"], table["guidance"], Solver(table["solver"]))
