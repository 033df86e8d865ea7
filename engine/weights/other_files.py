"""Files of people who use Wan that hold no network: LoRA and latents, recognised by names. Pure and torch-free."""

import re
from collections.abc import Mapping

from engine.weights.expected import Shape

# How the tensors of all kinds of LoRA end; no parameter of a network does.
LORA_ENDING = re.compile(
    r"(lora_(down|up|mid|A|B)(\.\w+)?(\.weight)?|lora_linear_layer\.(down|up)\.weight|lora\.(down|up)\.weight"
    r"|hada_[wt][12](_[ab])?|lokr_[wt][12](_[ab])?|dora_scale|\.diff(_b|_m)?)$"
)
# A layer of Wan's blocks in any naming, with dots or underscores, and not one of the many `..._blocks` of others.
WAN_LAYER = re.compile(
    r"(?:^|\.|lora_unet_{1,2}|lycoris_)blocks[._]\d+[._](?:self_attn|cross_attn|attn[12]|ffn|norm|modulation|diff)"
)
WIDTHS = {1536: "1.3B", 3072: "5B", 5120: "14B"}
# Rows of these are as many as the model is wide.
AS_WIDE_AS_THE_MODEL = re.compile(r"attn[12]?[._](?:to_)?q[._].*(?:lora_up|lora_B|lora\.up|_layer\.up)")
LATENTS = ("latent_tensor", "latents", "latent", "samples")  # ComfyUI's name first


def lora_family(stored: Mapping[str, Shape]) -> str | None:
    """The family of LoRA that `stored` tensors are, by the width of its model where that shows; None for no LoRA.

    Raises ValueError for a LoRA of another model.
    """
    if not any(LORA_ENDING.search(name) for name in stored):
        return None
    if not any(WAN_LAYER.search(name) for name in stored):
        raise ValueError("a LoRA of another model than Wan")
    rows = {shape[0] for name, shape in stored.items() if shape and AS_WIDE_AS_THE_MODEL.search(name)}
    width = WIDTHS.get(rows.pop()) if len(rows) == 1 else None
    return f"wan_{width}_lora" if width else "wan_lora"


def are_latents(stored: Mapping[str, Shape]) -> bool:
    """Whether `stored` tensors are one clip of latents and what goes with it."""
    return any(name in LATENTS and len(shape) in (4, 5) for name, shape in stored.items())
