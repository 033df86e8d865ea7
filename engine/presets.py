"""The settings that a model is sampled with unless a person says otherwise; torch-free, safe on any thread."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import EngineError, ErrorCode
from engine.weights.detect import find_model

PRESETS_FILE = Path(__file__).resolve().parent.parent / "resources" / "presets.toml"
VAE_FACTOR = 8
OTHER = "other"


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """Defaults of one model. `sizes` are those it was trained on; `size_multiple` divides every valid side."""

    name: str
    width: int
    height: int
    frames: int
    fps: int
    steps: int
    guidance: float
    shift: float
    sizes: tuple[tuple[int, int], ...]
    size_multiple: int
    negative_prompt: str = ""


def defaults_of(folder: Path) -> ModelDefaults:
    """The defaults of the model in `folder`. Raises MODEL_NOT_FOUND and MODEL_INVALID."""
    file = find_model(folder).transformer_config
    try:
        return defaults_for(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError, AttributeError, LookupError) as error:
        raise EngineError(ErrorCode.MODEL_INVALID, file=str(file), reason=str(error)) from error


def defaults_for(config: dict[str, Any]) -> ModelDefaults:
    """The defaults of the model whose `config.json` is `config`, found by its width and depth.

    Models of other shapes get the entry `other`: the settings that Wan text-to-video models share.
    """
    presets = read_presets()
    shape = (config.get("dim"), config.get("num_layers"))
    named = (name for name, entry in presets.items() if name != OTHER and (entry["dim"], entry["layers"]) == shape)
    name = next(named, OTHER)
    return _defaults(name, presets[name], size_multiple(config))


def size_multiple(config: dict[str, Any]) -> int:
    """What pixel sides must be multiples of: the VAE's spatial factor times the patch (official: 1, 2, 2)."""
    patch = config.get("patch_size", (1, 2, 2))
    return VAE_FACTOR * int(patch[1])


def read_presets(file: Path = PRESETS_FILE) -> dict[str, dict[str, Any]]:
    """Every entry of `presets.toml` by its name."""
    return tomllib.loads(file.read_text("utf-8"))


def _defaults(name: str, entry: dict[str, Any], multiple: int) -> ModelDefaults:
    sizes = tuple(_size(text) for text in entry["sizes"])
    rest = {key: value for key, value in entry.items() if key not in ("dim", "layers", "sizes")}
    return ModelDefaults(name=name, sizes=sizes, size_multiple=multiple, **rest)


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)
