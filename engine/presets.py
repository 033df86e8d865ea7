"""The settings that a model is sampled with unless a person says otherwise; torch-free, safe on any thread."""

import json
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from engine.model_choice import ModelParts
from engine.pictures.road import PictureRoad, PictureUse, picture_use
from engine.weights.detect import NO_PARTS, find_model
from engine.weights.identify import Description
from engine.weights.inspect import inspect_files
from engine.weights.sizes import transformer_sizes

PRESETS_FILE = Path(__file__).resolve().parent.parent / "resources" / "presets.toml"
VAE_FACTORS = {48: 16}  # pixels beside each other that become one latent, by latent channels; of all other VAEs:
VAE_FACTOR = 8
OTHER = "other"
TEXT_ALONE = PictureUse(PictureRoad.NONE)
NO_MODELS = ("cards", "distilled")  # entries of the file that `engine.card_presets` reads


@dataclass(frozen=True, slots=True)
class ModelDefaults:
    """Defaults of one model. `sizes` are those it was trained on; `size_multiple` divides every side it samples.

    guidance_low, boundary: of models of two experts, the guidance of the second, and the noise level (0..1) below
    which it takes over. pictures: what the model does with those that a video begins from.
    """

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
    guidance_low: float | None = None
    boundary: float | None = None
    pictures: PictureUse = TEXT_ALONE


def defaults_of(model: Path, parts: ModelParts = NO_PARTS) -> ModelDefaults:
    """The defaults of a model in a folder, or of a transformer in a file. Raises MODEL_NOT_FOUND and MODEL_INVALID."""
    files = find_model(model, parts)
    return defaults_of_network(inspect_files(files.transformer).model, files.transformer_config)


def defaults_of_network(model: Description, config: Path | None = None) -> ModelDefaults:
    """The defaults of the transformer `model`: those of its family, else those of its width and depth.

    config: its config.json, where there is one, which tells models that take pictures through the latents alone.
    """
    sizes, presets, family = transformer_sizes(model.family.expected), read_presets(), model.family.name
    pictures, said = picture_use(sizes, None if config is None else _model_type(config)), asdict(sizes)
    if family in presets:
        return replace(_defaults(family, presets[family], size_multiple(said)), pictures=pictures)
    return replace(defaults_for(said), pictures=pictures)


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
    factor = VAE_FACTORS.get(config.get("out_dim", 16), VAE_FACTOR)
    return factor * int(config.get("patch_size", (1, 2, 2))[1])


def read_presets(file: Path = PRESETS_FILE) -> dict[str, dict[str, Any]]:
    """Every model of `presets.toml` by its name."""
    entries = tomllib.loads(file.read_text("utf-8"))
    return {name: entry for name, entry in entries.items() if name not in NO_MODELS}


def _model_type(config: Path) -> str | None:
    """What a config.json calls the kind of its model; None where it does not say, whatever else is wrong with it."""
    try:
        stated = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    said = stated.get("model_type") if isinstance(stated, dict) else None
    return said if isinstance(said, str) else None


def _defaults(name: str, entry: dict[str, Any], multiple: int) -> ModelDefaults:
    sizes = tuple(_size(text) for text in entry["sizes"])
    rest = {key: value for key, value in entry.items() if key not in ("dim", "layers", "sizes")}
    return ModelDefaults(name=name, sizes=sizes, size_multiple=multiple, **rest)


def _size(text: str) -> tuple[int, int]:
    width, height = text.split("x")
    return int(width), int(height)
