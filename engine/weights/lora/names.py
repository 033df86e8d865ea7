"""What the name of a stored LoRA tensor means: which parameter of the network it changes and as which part. Pure.

LoRA files name the layers of a network in official or diffusers spelling, with dots or underscores, under the prefix
of the program that trained them. All spellings are made from the network's own parameter names, never guessed back.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """One tensor of a change, whatever the program that wrote it calls it."""

    UP = "up"
    DOWN = "down"
    MID = "mid"
    DIFF = "diff"
    HADA_W1_A = "hada_w1_a"
    HADA_W1_B = "hada_w1_b"
    HADA_W2_A = "hada_w2_a"
    HADA_W2_B = "hada_w2_b"
    HADA_T1 = "hada_t1"
    HADA_T2 = "hada_t2"
    LOKR_W1 = "lokr_w1"
    LOKR_W1_A = "lokr_w1_a"
    LOKR_W1_B = "lokr_w1_b"
    LOKR_W2 = "lokr_w2"
    LOKR_W2_A = "lokr_w2_a"
    LOKR_W2_B = "lokr_w2_b"
    LOKR_T2 = "lokr_t2"
    ALPHA = "alpha"
    MAGNITUDE = "dora_scale"


@dataclass(frozen=True, slots=True)
class Place:
    """The `part` of a change of the official `parameter`."""

    parameter: str
    part: Part


# What a stored name ends in, and the end of the parameter's name; None: the weight, or the parameter itself.
OWN_NAMES = [(f".{part}", part, None) for part in Part if part.startswith(("hada", "lokr"))]
ENDINGS: list[tuple[str, Part, str | None]] = [
    *OWN_NAMES,
    *((f"{pair}.weight", part, None)
      for part, pairs in {
          Part.UP: (".lora_up", ".lora_B", "_lora.up", ".lora.up", ".lora_linear_layer.up"),
          Part.DOWN: (".lora_down", ".lora_A", "_lora.down", ".lora.down", ".lora_linear_layer.down"),
          Part.MID: (".lora_mid",),
          Part.MAGNITUDE: (".lora_magnitude_vector",),
      }.items()
      for pair in pairs),
    (".lora_magnitude_vector", Part.MAGNITUDE, None),
    (".dora_scale", Part.MAGNITUDE, None),
    (".alpha", Part.ALPHA, None),
    (".diff", Part.DIFF, None),
    (".w_norm", Part.DIFF, None),
    (".diff_b", Part.DIFF, "bias"),
    (".b_norm", Part.DIFF, "bias"),
    (".lora_B.bias", Part.DIFF, "bias"),
    (".lora_up.bias", Part.DIFF, "bias"),
    (".diff_m", Part.DIFF, "modulation"),
]  # fmt: skip

# Longer ones first where one begins with another.
PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "pipe.dit.",
    "model.",
    "lora_unet__",
    "lora_unet_",
    "lycoris_",
)

# Official layers and the names that diffusers gives them; the first that matches counts.
DIFFUSERS = [
    (re.compile(rf"{official}(?=\.|$)"), diffusers)
    for official, diffusers in (
        (r"time_embedding\.0", "condition_embedder.time_embedder.linear_1"),
        (r"time_embedding\.2", "condition_embedder.time_embedder.linear_2"),
        (r"time_projection\.1", "condition_embedder.time_proj"),
        (r"text_embedding\.0", "condition_embedder.text_embedder.linear_1"),
        (r"text_embedding\.2", "condition_embedder.text_embedder.linear_2"),
        (r"img_emb\.proj\.0", "condition_embedder.image_embedder.norm1"),
        (r"img_emb\.proj\.1", "condition_embedder.image_embedder.ff.net.0.proj"),
        (r"img_emb\.proj\.3", "condition_embedder.image_embedder.ff.net.2"),
        (r"img_emb\.proj\.4", "condition_embedder.image_embedder.norm2"),
        (r"img_emb\.emb_pos", "condition_embedder.image_embedder.pos_embed"),
        (r"head\.modulation", "scale_shift_table"),
        (r"head\.head", "proj_out"),
        (r"blocks\.(\d+)\.modulation", r"blocks.\1.scale_shift_table"),
        (r"blocks\.(\d+)\.norm3", r"blocks.\1.norm2"),
        (r"blocks\.(\d+)\.ffn\.0", r"blocks.\1.ffn.net.0.proj"),
        (r"blocks\.(\d+)\.ffn\.2", r"blocks.\1.ffn.net.2"),
        (r"blocks\.(\d+)\.self_attn\.([qkv])", r"blocks.\1.attn1.to_\2"),
        (r"blocks\.(\d+)\.self_attn\.o", r"blocks.\1.attn1.to_out.0"),
        (r"blocks\.(\d+)\.self_attn\.norm_([qk])", r"blocks.\1.attn1.norm_\2"),
        (r"blocks\.(\d+)\.cross_attn\.([qkv])", r"blocks.\1.attn2.to_\2"),
        (r"blocks\.(\d+)\.cross_attn\.o", r"blocks.\1.attn2.to_out.0"),
        (r"blocks\.(\d+)\.cross_attn\.norm_([qk])", r"blocks.\1.attn2.norm_\2"),
        (r"blocks\.(\d+)\.cross_attn\.([kv])_img", r"blocks.\1.attn2.add_\2_proj"),
        (r"blocks\.(\d+)\.cross_attn\.norm_k_img", r"blocks.\1.attn2.norm_added_k"),
    )
]

CROSS_ATTENTION = re.compile(r"(blocks\.\d+\.cross_attn\.)k\.weight")
IMAGE_LAYERS = ("k_img.weight", "k_img.bias", "v_img.weight", "v_img.bias", "norm_k_img.weight")
IMAGE_EMBEDDING = ("img_emb.emb_pos", *(f"img_emb.proj.{i}.{end}" for i in (0, 1, 3, 4) for end in ("weight", "bias")))


class NameMap:
    """All spellings of the layers of a network with these official `parameters`."""

    def __init__(self, parameters: Iterable[str]) -> None:
        own = list(parameters)
        self._parameters = {*own, *image_branch(own)}
        self._paths = _spellings(self._parameters)

    def locate(self, stored: str) -> Place | None:
        """What the stored name means; None for what is no part of a change, or not of this network.

        Parameters of the image branch are found also where the network has none, see `image_branch`.
        """
        name = stored.replace(".default.", ".").removesuffix(".default").replace(".processor.", ".")
        for ending, part, of in ENDINGS:
            if name.endswith(ending):
                path = self._path(name.removesuffix(ending))
                parameter = None if path is None else self._parameter(path, of)
                return None if parameter is None else Place(parameter, part)
        return None

    def _path(self, name: str) -> str | None:
        while name not in self._paths:
            prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
            if prefix is None:
                return None
            name = name.removeprefix(prefix)
        return self._paths[name]

    def _parameter(self, path: str, of: str | None) -> str | None:
        candidates = (f"{path}.weight", path) if of is None else (f"{path}.{of}",)
        return next((name for name in candidates if name in self._parameters), None)


def image_branch(parameters: Iterable[str]) -> list[str]:
    """The parameters that the image-to-video model has beyond `parameters`, those of a text-to-video one."""
    attentions = [match[1] for name in parameters if (match := CROSS_ATTENTION.fullmatch(name))]
    return [*(prefix + layer for prefix in attentions for layer in IMAGE_LAYERS), *IMAGE_EMBEDDING]


def diffusers_name(path: str) -> str:
    """The name that diffusers gives the official layer or parameter `path`."""
    for pattern, replacement in DIFFUSERS:
        if match := pattern.match(path):
            return match.expand(replacement) + path[match.end() :]
    return path


def _spellings(parameters: set[str]) -> dict[str, str]:
    """Official path of a layer or parameter by each of its spellings; where two clash the official one stays."""
    paths = {path for name in parameters for path in (name, name.rpartition(".")[0]) if path}
    official = {path: path for path in paths}
    diffusers = {diffusers_name(path): path for path in paths}
    diffusers |= {name.removesuffix(".0"): path for name, path in diffusers.items() if name.endswith(".to_out.0")}
    return _underscored(diffusers) | diffusers | _underscored(official) | official


def _underscored(paths: dict[str, str]) -> dict[str, str]:
    return {name.replace(".", "_"): path for name, path in paths.items()}
