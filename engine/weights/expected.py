"""Names and shapes of every parameter of the networks, as functions of their sizes. Pure and torch-free.

A header can so be compared with a network that is not built. The names are those of the official checkpoints.
"""

from dataclasses import dataclass
from math import prod

Shape = tuple[int, ...]
Shapes = dict[str, Shape]  # by the official parameter name


@dataclass(frozen=True, slots=True)
class TransformerSizes:
    """Sizes of a transformer that its tensors show; the number of heads is not among them.

    image_dim: channels of the image features that its cross-attention also takes, 0 for none. image_positions: how many
    of them have a place of their own (first and last picture), 0 where places are not learnt.
    """

    dim: int
    ffn_dim: int
    num_layers: int
    in_dim: int
    out_dim: int
    freq_dim: int = 256
    text_dim: int = 4096
    patch_size: tuple[int, int, int] = (1, 2, 2)
    image_dim: int = 0
    image_positions: int = 0


@dataclass(frozen=True, slots=True)
class TextEncoderSizes:
    """Sizes of a umT5 encoder."""

    vocab_size: int
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int


@dataclass(frozen=True, slots=True)
class ImageEncoderSizes:
    """Sizes of the picture half of a CLIP model."""

    dim: int
    dim_ffn: int
    num_layers: int
    tokens: int
    patch_size: int
    embed_dim: int


def linear(name: str, c_in: int, c_out: int) -> Shapes:
    """A linear layer with a bias."""
    return {f"{name}.weight": (c_out, c_in), f"{name}.bias": (c_out,)}


def norm(name: str, channels: int) -> Shapes:
    """A layer norm with weights."""
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def transformer_shapes(sizes: TransformerSizes) -> Shapes:
    """Every parameter of a transformer."""
    dim = sizes.dim
    shapes: Shapes = {
        "patch_embedding.weight": (dim, sizes.in_dim, *sizes.patch_size),
        "patch_embedding.bias": (dim,),
        **linear("text_embedding.0", sizes.text_dim, dim),
        **linear("text_embedding.2", dim, dim),
        **linear("time_embedding.0", sizes.freq_dim, dim),
        **linear("time_embedding.2", dim, dim),
        **linear("time_projection.1", dim, 6 * dim),
        "head.modulation": (1, 2, dim),
        **linear("head.head", dim, prod(sizes.patch_size) * sizes.out_dim),
    }
    for index in range(sizes.num_layers):
        shapes |= _block(f"blocks.{index}", sizes)
    return shapes | (_image_embedding(sizes) if sizes.image_dim else {})


def _block(name: str, sizes: TransformerSizes) -> Shapes:
    dim = sizes.dim
    shapes: Shapes = {f"{name}.modulation": (1, 6, dim), **norm(f"{name}.norm3", dim)}
    for attention in (f"{name}.self_attn", f"{name}.cross_attn"):
        for projection in "qkvo":
            shapes |= linear(f"{attention}.{projection}", dim, dim)
        shapes |= {f"{attention}.norm_q.weight": (dim,), f"{attention}.norm_k.weight": (dim,)}
    if sizes.image_dim:
        shapes |= linear(f"{name}.cross_attn.k_img", dim, dim) | linear(f"{name}.cross_attn.v_img", dim, dim)
        shapes[f"{name}.cross_attn.norm_k_img.weight"] = (dim,)
    return shapes | linear(f"{name}.ffn.0", dim, sizes.ffn_dim) | linear(f"{name}.ffn.2", sizes.ffn_dim, dim)


def _image_embedding(sizes: TransformerSizes) -> Shapes:
    width = sizes.image_dim
    shapes = norm("img_emb.proj.0", width) | linear("img_emb.proj.1", width, width)
    shapes |= linear("img_emb.proj.3", width, sizes.dim) | norm("img_emb.proj.4", sizes.dim)
    return shapes | ({"img_emb.emb_pos": (1, sizes.image_positions, width)} if sizes.image_positions else {})


def text_encoder_shapes(sizes: TextEncoderSizes) -> Shapes:
    """Every parameter of a umT5 encoder."""
    shapes: Shapes = {"token_embedding.weight": (sizes.vocab_size, sizes.dim), "norm.weight": (sizes.dim,)}
    for index in range(sizes.num_layers):
        name = f"blocks.{index}"
        shapes |= {f"{name}.attn.{projection}.weight": (sizes.dim_attn, sizes.dim) for projection in "qkv"}
        shapes |= {
            f"{name}.attn.o.weight": (sizes.dim, sizes.dim_attn),
            f"{name}.norm1.weight": (sizes.dim,),
            f"{name}.norm2.weight": (sizes.dim,),
            f"{name}.ffn.gate.0.weight": (sizes.dim_ffn, sizes.dim),
            f"{name}.ffn.fc1.weight": (sizes.dim_ffn, sizes.dim),
            f"{name}.ffn.fc2.weight": (sizes.dim, sizes.dim_ffn),
            f"{name}.pos_embedding.embedding.weight": (sizes.num_buckets, sizes.num_heads),
        }
    return shapes


def image_encoder_shapes(sizes: ImageEncoderSizes) -> Shapes:
    """Every parameter of the picture half of CLIP, with those that `image_encoder_unused` names."""
    dim = sizes.dim
    shapes: Shapes = {
        "visual.cls_embedding": (1, 1, dim),
        "visual.pos_embedding": (1, sizes.tokens, dim),
        "visual.patch_embedding.weight": (dim, 3, sizes.patch_size, sizes.patch_size),
        **norm("visual.pre_norm", dim),
        **norm("visual.post_norm", dim),
        "visual.head": (dim, sizes.embed_dim),
    }
    for index in range(sizes.num_layers):
        name = f"visual.transformer.{index}"
        shapes |= norm(f"{name}.norm1", dim) | norm(f"{name}.norm2", dim)
        shapes |= linear(f"{name}.attn.to_qkv", dim, 3 * dim) | linear(f"{name}.attn.proj", dim, dim)
        shapes |= linear(f"{name}.mlp.0", dim, sizes.dim_ffn) | linear(f"{name}.mlp.2", sizes.dim_ffn, dim)
    return shapes


def image_encoder_unused(sizes: ImageEncoderSizes) -> frozenset[str]:
    """What Wan leaves out: it takes the output of the last layer but one, and files may lack the rest."""
    last = f"visual.transformer.{sizes.num_layers - 1}."
    layer = {name for name in image_encoder_shapes(sizes) if name.startswith(last)}
    return frozenset(layer | {"visual.post_norm.weight", "visual.post_norm.bias", "visual.head"})
