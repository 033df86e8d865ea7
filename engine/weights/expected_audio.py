"""Names and shapes of what makes lips follow speech: InfiniteTalk's layers and wav2vec 2.0. Pure and torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.weights.expected import Shape, Shapes, linear, norm

CONV_KERNELS = (10, 3, 3, 3, 3, 2, 2)  # of wav2vec 2.0, from the waveform on
POSITION_GROUPS = 16


@dataclass(frozen=True, slots=True)
class SpeechLayerSizes:
    """Sizes of InfiniteTalk's layers; `window` and `window_group`: values of all layers in a window of speech."""

    dim: int
    num_layers: int
    audio_dim: int
    hidden_dim: int
    tokens: int
    window: int
    window_group: int


@dataclass(frozen=True, slots=True)
class SpeechEncoderSizes:
    """Sizes of a wav2vec 2.0 encoder."""

    dim: int
    dim_ffn: int
    num_layers: int
    conv_dim: int
    position_kernel: int


def speech_layer_sizes(stored: Mapping[str, Shape], num_layers: int) -> SpeechLayerSizes:
    """The sizes that `stored` tensors show. Raises KeyError, ValueError, IndexError or ZeroDivisionError."""
    hidden_dim, window = stored["audio_proj.proj1.weight"]
    audio_dim = stored["audio_proj.norm.weight"][0]
    return SpeechLayerSizes(
        dim=stored["blocks.0.norm_x.weight"][0],
        num_layers=num_layers,
        audio_dim=audio_dim,
        hidden_dim=hidden_dim,
        tokens=stored["audio_proj.proj3.bias"][0] // audio_dim,
        window=window,
        window_group=stored["audio_proj.proj1_vf.weight"][1],
    )


def speech_layer_shapes(sizes: SpeechLayerSizes) -> Shapes:
    """Every parameter that InfiniteTalk adds to an image-to-video transformer."""
    shapes = linear("audio_proj.proj1", sizes.window, sizes.hidden_dim)
    shapes |= linear("audio_proj.proj1_vf", sizes.window_group, sizes.hidden_dim)
    shapes |= linear("audio_proj.proj2", sizes.hidden_dim, sizes.hidden_dim)
    shapes |= linear("audio_proj.proj3", sizes.hidden_dim, sizes.tokens * sizes.audio_dim)
    shapes |= norm("audio_proj.norm", sizes.audio_dim)
    for index in range(sizes.num_layers):
        attention = f"blocks.{index}.audio_cross_attn"
        shapes |= norm(f"blocks.{index}.norm_x", sizes.dim)
        shapes |= linear(f"{attention}.q_linear", sizes.dim, sizes.dim)
        shapes |= linear(f"{attention}.kv_linear", sizes.audio_dim, 2 * sizes.dim)
        shapes |= linear(f"{attention}.proj", sizes.dim, sizes.dim)
    return shapes


def speech_encoder_sizes(stored: Mapping[str, Shape], num_layers: int) -> SpeechEncoderSizes:
    """The sizes that `stored` tensors show. Raises KeyError, ValueError or IndexError."""
    dim, conv_dim = stored["feature_projection.projection.weight"]
    return SpeechEncoderSizes(
        dim=dim,
        dim_ffn=stored["encoder.layers.0.feed_forward.intermediate_dense.bias"][0],
        num_layers=num_layers,
        conv_dim=conv_dim,
        position_kernel=stored["encoder.pos_conv_embed.conv.parametrizations.weight.original1"][2],
    )


def speech_encoder_shapes(sizes: SpeechEncoderSizes) -> Shapes:
    """Every parameter of a wav2vec 2.0 encoder, under transformers' names."""
    dim, conv_dim = sizes.dim, sizes.conv_dim
    position = "encoder.pos_conv_embed.conv"
    shapes: Shapes = {
        **norm("feature_extractor.conv_layers.0.layer_norm", conv_dim),
        **norm("feature_projection.layer_norm", conv_dim),
        **linear("feature_projection.projection", conv_dim, dim),
        f"{position}.bias": (dim,),
        f"{position}.parametrizations.weight.original0": (1, 1, sizes.position_kernel),
        f"{position}.parametrizations.weight.original1": (dim, dim // POSITION_GROUPS, sizes.position_kernel),
        **norm("encoder.layer_norm", dim),
    }
    for index, kernel in enumerate(CONV_KERNELS):
        name = f"feature_extractor.conv_layers.{index}.conv.weight"
        shapes[name] = (conv_dim, conv_dim if index else 1, kernel)
    for index in range(sizes.num_layers):
        name = f"encoder.layers.{index}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{name}.attention.{projection}", dim, dim)
        shapes |= norm(f"{name}.layer_norm", dim) | norm(f"{name}.final_layer_norm", dim)
        shapes |= linear(f"{name}.feed_forward.intermediate_dense", dim, sizes.dim_ffn)
        shapes |= linear(f"{name}.feed_forward.output_dense", sizes.dim_ffn, dim)
    return shapes
