"""The sizes of a transformer: what its tensors show, and the number of heads, which only a JSON file states.

Every published model has heads of 128 channels, so that its file is enough. Lives on the engine's thread.
"""

import dataclasses
from pathlib import Path
from typing import Any

from engine.models.transformer import TransformerConfig
from engine.weights.complete import CONFIG, OWN_SIZES
from engine.weights.configs import frozen, read_json, shapes_of
from engine.weights.detect import ModelFiles
from engine.weights.families import Role
from engine.weights.header import invalid
from engine.weights.sizes import transformer_sizes
from engine.weights.whole import describe

HEAD_DIM = 128
# What `diffusers` calls the same sizes; the others it calls as officially, or does not state.
DIFFUSERS_NAMES = {
    "num_attention_heads": "num_heads",
    "in_channels": "in_dim",
    "out_channels": "out_dim",
    "image_dim": "image_dim",
}
COUNTS = ("num_heads", "text_len")  # stated only


def transformer_config(files: ModelFiles) -> TransformerConfig:
    """The sizes of the transformer of `files`. Raises MODEL_INVALID, also when a JSON file contradicts the tensors."""
    description = describe(files.transformer, Role.TRANSFORMER)
    sizes = dataclasses.asdict(transformer_sizes(shapes_of(description)))
    stated = {} if files.transformer_config is None else _stated(files.transformer_config)
    source = files.transformer_config or files.transformer[0]
    if "num_heads" not in stated:
        if description.family.name in OWN_SIZES:
            raise invalid(source, f"the number of heads is not known; {CONFIG} beside the file should state num_heads")
        stated["num_heads"] = sizes["dim"] // HEAD_DIM
    config = TransformerConfig(**sizes | {name: value for name, value in stated.items() if name not in sizes})
    faults = _contradictions(stated, sizes) or _faults(config)
    if faults:
        raise invalid(source, "; ".join(faults))
    return config


def _stated(file: Path) -> dict[str, Any]:
    known = {field.name for field in dataclasses.fields(TransformerConfig)}
    content = read_json(file)
    is_diffusers = "num_attention_heads" in content
    named = {DIFFUSERS_NAMES.get(name, name) if is_diffusers else name: value for name, value in content.items()}
    # Null is how that library states what a model has not.
    return frozen(
        {name: value for name, value in named.items() if name in known and not (is_diffusers and value is None)}
    )


def _contradictions(stated: dict[str, Any], sizes: dict[str, Any]) -> list[str]:
    return [
        f"{name} is {value!r}, the tensors have {sizes[name]!r}"
        for name, value in stated.items()
        if name in sizes and (type(value) is not type(sizes[name]) or value != sizes[name])
    ]


def _faults(config: TransformerConfig) -> list[str]:
    counts = {name: getattr(config, name) for name in COUNTS}
    faults = [f"{name} is {value!r}" for name, value in counts.items() if type(value) is not int or value < 1]
    if not isinstance(config.eps, float):
        faults.append(f"eps is {config.eps!r}")
    if not faults and config.dim % (2 * config.num_heads):
        faults.append(f"dim {config.dim} is not a multiple of twice num_heads {config.num_heads}")
    return faults
