"""Sizes of transformers and encoders, taken from the shapes of their tensors. Pure and torch-free.

Here `stored` has official names and shapes of values. All functions raise KeyError, with the name, where a tensor that
tells a size is missing, and ValueError, IndexError or ZeroDivisionError where its shape cannot be that of the network.
"""

import re
from collections.abc import Mapping
from math import prod

from engine.weights.expected import ImageEncoderSizes, Shape, TextEncoderSizes, TransformerSizes

MOST_LAYERS = 1000  # a forged number must not make a list of a billion parameters
PATCH = (1, 2, 2)  # of all published transformers; a GGUF file may have folded it away


def layer_count(stored: Mapping[str, Shape], prefix: str) -> int:
    """One more than the highest number after `prefix`; a missing layer in between is still one that is expected."""
    pattern = re.compile(re.escape(prefix) + r"(\d{1,9})\.")
    count = 1 + max((int(match[1]) for name in stored if (match := pattern.match(name))), default=-1)
    if not 0 < count <= MOST_LAYERS:
        raise ValueError(f"{count} layers")
    return count


def transformer_sizes(stored: Mapping[str, Shape]) -> TransformerSizes:
    """The sizes of a transformer."""
    dim = stored["patch_embedding.bias"][0]
    in_dim, patch_size = _patches(stored["patch_embedding.weight"], dim)
    return TransformerSizes(
        dim=dim,
        ffn_dim=stored["blocks.0.ffn.0.bias"][0],
        num_layers=layer_count(stored, "blocks."),
        in_dim=in_dim,
        out_dim=stored["head.head.bias"][0] // prod(patch_size),
        freq_dim=stored["time_embedding.0.weight"][1],
        text_dim=stored["text_embedding.0.weight"][1],
        patch_size=patch_size,
        image_dim=stored.get("img_emb.proj.0.bias", (0,))[0],
        image_positions=stored.get("img_emb.emb_pos", (0, 0))[-2],
    )


def _patches(weight: Shape, dim: int) -> tuple[int, tuple[int, int, int]]:
    if len(weight) == 5:
        _, in_dim, frames, rows, columns = weight
        return in_dim, (frames, rows, columns)
    return prod(weight) // (dim * prod(PATCH)), PATCH


def text_encoder_sizes(stored: Mapping[str, Shape]) -> TextEncoderSizes:
    """The sizes of a umT5 encoder."""
    vocab_size, dim = stored["token_embedding.weight"]
    num_buckets, num_heads = stored["blocks.0.pos_embedding.embedding.weight"]
    return TextEncoderSizes(
        vocab_size=vocab_size,
        dim=dim,
        dim_attn=stored["blocks.0.attn.q.weight"][0],
        dim_ffn=stored["blocks.0.ffn.fc1.weight"][0],
        num_heads=num_heads,
        num_layers=layer_count(stored, "blocks."),
        num_buckets=num_buckets,
    )


def image_encoder_sizes(stored: Mapping[str, Shape]) -> ImageEncoderSizes:
    """The sizes of the picture half of CLIP; the width that it is compared in is not always stored."""
    dim, _, rows, _ = stored["visual.patch_embedding.weight"]
    return ImageEncoderSizes(
        dim=dim,
        dim_ffn=stored["visual.transformer.0.mlp.0.bias"][0],
        num_layers=layer_count(stored, "visual.transformer."),
        tokens=stored["visual.pos_embedding"][-2],
        patch_size=rows,
        embed_dim=stored.get("visual.head", (dim, 1024))[1],
    )
