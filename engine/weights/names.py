"""What stored tensors are called officially: prefixes stripped, names of diffusers, transformers and GGUF put back.

Facts about files of others, from the tables that were checked against diffusers and transformers by name and shape.
Pure and torch-free. Only beginnings of names are changed, so whatever is stored beside a weight (`.scale_weight`, ...)
keeps its ending and follows it.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

# What programs put before the names of a network when they store it alone; the longer ones first.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "net.")


class Layout(StrEnum):
    """Whose names the tensors of a file have."""

    OFFICIAL = "official"
    PREFIXED = "prefixed"  # official, behind one of `PREFIXES`
    DIFFUSERS = "diffusers"
    TRANSFORMERS = "transformers"
    GGUF = "gguf"


@dataclass(frozen=True, slots=True)
class Naming:
    """The official names of a file's tensors, by the stored ones; `prefix` is what was stripped from most of them."""

    layout: Layout
    prefix: str
    official: dict[str, str]
    rename: Callable[[str], str]  # of a name without its prefix


Rules = tuple[tuple[str, str], ...]  # what a name begins with, as a regular expression, and what it becomes

TRANSFORMER: Rules = (
    (r"^condition_embedder\.time_embedder\.linear_1\.", "time_embedding.0."),
    (r"^condition_embedder\.time_embedder\.linear_2\.", "time_embedding.2."),
    (r"^condition_embedder\.time_proj\.", "time_projection.1."),
    (r"^condition_embedder\.text_embedder\.linear_1\.", "text_embedding.0."),
    (r"^condition_embedder\.text_embedder\.linear_2\.", "text_embedding.2."),
    (r"^condition_embedder\.image_embedder\.norm1\.", "img_emb.proj.0."),
    (r"^condition_embedder\.image_embedder\.ff\.net\.0\.proj\.", "img_emb.proj.1."),
    (r"^condition_embedder\.image_embedder\.ff\.net\.2\.", "img_emb.proj.3."),
    (r"^condition_embedder\.image_embedder\.norm2\.", "img_emb.proj.4."),
    (r"^condition_embedder\.image_embedder\.pos_embed$", "img_emb.emb_pos"),
    (r"^scale_shift_table$", "head.modulation"),
    (r"^proj_out\.", "head.head."),
    (r"^(blocks\.\d+\.)scale_shift_table$", r"\1modulation"),
    (r"^(blocks\.\d+\.)norm2\.", r"\1norm3."),
    (r"^(blocks\.\d+\.)ffn\.net\.0\.proj\.", r"\1ffn.0."),
    (r"^(blocks\.\d+\.)ffn\.net\.2\.", r"\1ffn.2."),
    (r"^(blocks\.\d+\.)attn1\.", r"\1self_attn."),
    (r"^(blocks\.\d+\.)attn2\.", r"\1cross_attn."),
    (r"^(blocks\.\d+\.(?:self|cross)_attn\.)to_([qkv])\.", r"\1\2."),
    (r"^(blocks\.\d+\.(?:self|cross)_attn\.)to_out\.0\.", r"\1o."),
    (r"^(blocks\.\d+\.cross_attn\.)add_([kv])_proj\.", r"\1\2_img."),
    (r"^(blocks\.\d+\.cross_attn\.)norm_added_k\.", r"\1norm_k_img."),
)
VAE_ENDS: Rules = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"^(encoder|decoder)\.conv_in\.", r"\1.conv1."),
    (r"^(encoder|decoder)\.norm_out\.", r"\1.head.0."),
    (r"^(encoder|decoder)\.conv_out\.", r"\1.head.2."),
    (r"^(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.middle.1."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.middle.0."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.middle.2."),
)
VAE_BLOCK: Rules = (
    (r"(\.\d+)\.norm1\.", r"\1.residual.0."),
    (r"(\.\d+)\.conv1\.", r"\1.residual.2."),
    (r"(\.\d+)\.norm2\.", r"\1.residual.3."),
    (r"(\.\d+)\.conv2\.", r"\1.residual.6."),
    (r"(\.\d+)\.conv_shortcut\.", r"\1.shortcut."),
)
# Wan 2.1 counts layers through all stages: three residual blocks and an upsampler are four layers.
VAE: Rules = (
    *VAE_ENDS,
    (r"^encoder\.down_blocks\.", "encoder.downsamples."),
    *(
        (rf"^decoder\.up_blocks\.{s}\.resnets\.{r}\.", f"decoder.upsamples.{4 * s + r}.")
        for s in range(4)
        for r in range(3)
    ),
    *((rf"^decoder\.up_blocks\.{s}\.upsamplers\.0\.", f"decoder.upsamples.{4 * s + 3}.") for s in range(4)),
    *VAE_BLOCK,
)
VAE_STAGED: Rules = (
    *VAE_ENDS,
    (r"^encoder\.down_blocks\.(\d+)\.resnets\.", r"encoder.downsamples.\1.downsamples."),
    (r"^encoder\.down_blocks\.(\d+)\.downsampler\.", r"encoder.downsamples.\1.downsamples.2."),
    (r"^decoder\.up_blocks\.(\d+)\.resnets\.", r"decoder.upsamples.\1.upsamples."),
    (r"^decoder\.up_blocks\.(\d+)\.upsampler\.", r"decoder.upsamples.\1.upsamples.3."),
    *VAE_BLOCK,
)
TEXT_ENCODER: Rules = (
    (r"^shared\.", "token_embedding."),
    (r"^encoder\.final_layer_norm\.", "norm."),
    (r"^encoder\.block\.(\d+)\.layer\.0\.layer_norm\.", r"blocks.\1.norm1."),
    (r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkvo])\.", r"blocks.\1.attn.\2."),
    (
        r"^encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\.",
        r"blocks.\1.pos_embedding.embedding.",
    ),
    (r"^encoder\.block\.(\d+)\.layer\.1\.layer_norm\.", r"blocks.\1.norm2."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\.", r"blocks.\1.ffn.gate.0."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\.", r"blocks.\1.ffn.fc1."),
    (r"^encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.", r"blocks.\1.ffn.fc2."),
)
TEXT_ENCODER_GGUF: Rules = (
    (r"^token_embd\.", "token_embedding."),
    (r"^enc\.output_norm\.", "norm."),
    (r"^enc\.blk\.(\d+)\.attn_([qkvo])\.", r"blocks.\1.attn.\2."),
    (r"^enc\.blk\.(\d+)\.attn_rel_b\.", r"blocks.\1.pos_embedding.embedding."),
    (r"^enc\.blk\.(\d+)\.attn_norm\.", r"blocks.\1.norm1."),
    (r"^enc\.blk\.(\d+)\.ffn_gate\.", r"blocks.\1.ffn.gate.0."),
    (r"^enc\.blk\.(\d+)\.ffn_up\.", r"blocks.\1.ffn.fc1."),
    (r"^enc\.blk\.(\d+)\.ffn_down\.", r"blocks.\1.ffn.fc2."),
    (r"^enc\.blk\.(\d+)\.ffn_norm\.", r"blocks.\1.norm2."),
)
# Three projections make one fused one; they get names of their own here, and `PIECES_OF` knows what they make.
IMAGE_ENCODER: Rules = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual.cls_embedding"),
    (r"^vision_model\.embeddings\.position_embedding\.weight$", "visual.pos_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding\.", "visual.patch_embedding."),
    (r"^vision_model\.pre_layrnorm\.", "visual.pre_norm."),
    (r"^vision_model\.post_layernorm\.", "visual.post_norm."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm1\.", r"visual.transformer.\1.norm1."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm2\.", r"visual.transformer.\1.norm2."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.", r"visual.transformer.\1.attn.to_\2."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"visual.transformer.\1.attn.proj."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.", r"visual.transformer.\1.mlp.0."),
    (r"^vision_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.", r"visual.transformer.\1.mlp.2."),
)
SPEECH_ENCODER: Rules = (
    (r"^wav2vec2\.", ""),
    (r"pos_conv_embed\.conv\.weight_g$", "pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"pos_conv_embed\.conv\.weight_v$", "pos_conv_embed.conv.parametrizations.weight.original1"),
)
FUSED = ".to_qkv."
PIECES = (".to_q.", ".to_k.", ".to_v.")

# Names with such a beginning belong to the layout; the first that any name has decides.
BEGINNINGS: tuple[tuple[str, Layout, Rules], ...] = (
    ("condition_embedder.", Layout.DIFFUSERS, TRANSFORMER),
    ("encoder.down_blocks.0.resnets.", Layout.DIFFUSERS, VAE_STAGED),
    ("decoder.up_blocks.0.upsampler.", Layout.DIFFUSERS, VAE_STAGED),
    ("decoder.up_blocks.", Layout.DIFFUSERS, VAE),
    ("encoder.down_blocks.", Layout.DIFFUSERS, VAE),
    ("encoder.block.", Layout.TRANSFORMERS, TEXT_ENCODER),
    ("enc.blk.", Layout.GGUF, TEXT_ENCODER_GGUF),
    ("vision_model.", Layout.TRANSFORMERS, IMAGE_ENCODER),
    ("wav2vec2.", Layout.TRANSFORMERS, SPEECH_ENCODER),
    ("feature_projection.", Layout.TRANSFORMERS, SPEECH_ENCODER),
)


def official_names(stored: Iterable[str]) -> Naming:
    """The official names of the tensors called `stored`. Two of them may come out the same in a file that is wrong."""
    names = list(stored)
    prefix = common_prefix(names)
    stripped = {name: name.removeprefix(prefix) for name in names}
    layout, rules = _layout(stripped.values())
    rename = _renaming(rules)
    official = {name: rename(without) for name, without in stripped.items()}
    return Naming(Layout.PREFIXED if prefix and layout is Layout.OFFICIAL else layout, prefix, official, rename)


def common_prefix(names: list[str]) -> str:
    """The one of `PREFIXES` that most of `names` begin with; empty where most have none."""
    counts = Counter(next((prefix for prefix in PREFIXES if name.startswith(prefix)), "") for name in names)
    return counts.most_common(1)[0][0] if counts else ""


def pieces_of(name: str) -> tuple[str, ...]:
    """The names of what the fused projection `name` may be stored as, in order; empty for any other parameter."""
    return tuple(name.replace(FUSED, piece) for piece in PIECES) if FUSED in name else ()


def official_layer(layer: str, naming: Naming) -> str:
    """The official name of a layer that is named in a file's metadata, with or without the file's prefix."""
    return naming.rename(layer.removeprefix(naming.prefix) + ".").removesuffix(".")


def _layout(names: Iterable[str]) -> tuple[Layout, Rules]:
    known = tuple(beginning for beginning, _, _ in BEGINNINGS)
    found = {next(b for b in known if name.startswith(b)) for name in names if name.startswith(known)}
    return next(((layout, rules) for begin, layout, rules in BEGINNINGS if begin in found), (Layout.OFFICIAL, ()))


def _renaming(rules: Rules) -> Callable[[str], str]:
    compiled = [(re.compile(pattern), official) for pattern, official in rules]

    def rename(name: str) -> str:
        for pattern, official in compiled:
            name = pattern.sub(official, name, count=1)
        return name

    return rename
