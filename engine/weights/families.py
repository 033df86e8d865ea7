"""Which network a set of tensors is: its role, its family, and every parameter that it must have. Pure, torch-free.

The families are told apart by shapes. What shapes cannot tell, the generation of a 14B text-to-video model and which
of two experts a file is, is told by file and folder names, or is said to be open.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from engine.weights.expected import (
    ImageEncoderSizes,
    Shape,
    Shapes,
    TextEncoderSizes,
    TransformerSizes,
    image_encoder_shapes,
    image_encoder_unused,
    text_encoder_shapes,
    transformer_shapes,
)
from engine.weights.expected_audio import (
    speech_encoder_shapes,
    speech_encoder_sizes,
    speech_layer_shapes,
    speech_layer_sizes,
)
from engine.weights.expected_preview import (
    MARK,
    SUPER_MARK,
    PreviewSizes,
    preview_encoder_shapes,
    preview_shapes,
    preview_sizes,
)
from engine.weights.expected_vae import VaeSizes, vae_shapes, vae_sizes
from engine.weights.neighbours import refuse_other_text_encoder, refuse_other_transformer
from engine.weights.provenance import Expert, expert_in, is_generation_22
from engine.weights.sizes import image_encoder_sizes, layer_count, text_encoder_sizes, transformer_sizes


class Role(StrEnum):
    """What a file is for."""

    TRANSFORMER = "transformer"
    TEXT_ENCODER = "text_encoder"
    VAE = "vae"
    IMAGE_ENCODER = "image_encoder"
    PREVIEW_DECODER = "preview_decoder"
    AUDIO = "audio"
    LORA = "lora"
    LATENTS = "latents"


@dataclass(frozen=True, slots=True)
class Family:
    """What a network is called, and its parameters.

    unused: those of `expected` that a file may lack. alternatives: other families with the same tensors, where the
    file's name does not tell. expert: which of two the file is, where there are two and its name tells.
    """

    name: str
    role: Role
    expected: Shapes
    unused: frozenset[str] = frozenset()
    alternatives: tuple[str, ...] = ()
    expert: Expert | None = None


T2V_14B = "wan2.1_t2v_14B"
T2V_A14B = "wan2.2_t2v_A14B"
I2V_A14B = "wan2.2_i2v_A14B"
TRANSFORMERS = {
    TransformerSizes(1536, 8960, 30, 16, 16): "wan2.1_t2v_1.3B",
    TransformerSizes(5120, 13824, 40, 16, 16): T2V_14B,
    TransformerSizes(5120, 13824, 40, 36, 16, image_dim=1280): "wan2.1_i2v_14B",
    TransformerSizes(5120, 13824, 40, 36, 16, image_dim=1280, image_positions=514): "wan2.1_flf2v_14B",
    TransformerSizes(5120, 13824, 40, 36, 16): I2V_A14B,
    TransformerSizes(3072, 14336, 30, 48, 48): "wan2.2_ti2v_5B",
}
STAGES, TEMPORAL = (1, 2, 4, 4), (False, True, True)
VAES = {
    VaeSizes(96, 96, 16, STAGES, 2, TEMPORAL, 3, staged=False): "wan2.1_vae",
    VaeSizes(160, 256, 48, STAGES, 2, TEMPORAL, 12, staged=True): "wan2.2_vae",
}
PRUNED_DECODER_DIM = 24  # a quarter of the original width, in files that are called pruned or light
PREVIEWS = {
    PreviewSizes(16, 3, (256, 128, 64, 64), is_super=False): "taew2_1",
    PreviewSizes(48, 12, (256, 128, 64, 64), is_super=False): "taew2_2",
    PreviewSizes(48, 12, (512, 256, 128, 64), is_super=True): "taew2_2_super",
}
UMT5_XXL = TextEncoderSizes(256384, 4096, 4096, 10240, 64, 24, 32)
VIT_H = ImageEncoderSizes(1280, 5120, 32, 257, 14, 1024)
GROWING = re.compile(r"decoder\.\d+\.conv\.weight")

Stored = Mapping[str, Shape]  # by official names; shapes are those of the values


def recognise(stored: Stored, path: Path) -> Family | None:
    """The network that `stored` tensors are; None when they are none that is known.

    Raises ValueError, with the reason, for networks that are known and not supported, and KeyError, IndexError or
    ZeroDivisionError where sizes cannot be taken from the tensors.
    """
    for mark, family_of in MARKS:
        if mark in stored:
            return family_of(stored, path)
    return None


def _transformer(stored: Stored, path: Path) -> Family:
    sizes = transformer_sizes(stored)
    refuse_other_transformer(sizes)
    expected = transformer_shapes(sizes)
    if SPEECH_MARK in stored:
        expected |= speech_layer_shapes(speech_layer_sizes(stored, sizes.num_layers))
        return Family("infinitetalk_i2v_14B", Role.AUDIO, expected)
    name = TRANSFORMERS.get(sizes) or _architecture(sizes)
    if name == T2V_14B:
        return _text_to_video_14b(expected, path)
    return Family(name, Role.TRANSFORMER, expected, expert=expert_in(path) if name == I2V_A14B else None)


def _text_to_video_14b(expected: Shapes, path: Path) -> Family:
    """Both generations have these tensors; only the newer one comes as two experts."""
    is_22 = is_generation_22(path)
    if is_22:
        return Family(T2V_A14B, Role.TRANSFORMER, expected, expert=expert_in(path))
    return Family(T2V_14B, Role.TRANSFORMER, expected, alternatives=(T2V_A14B,) if is_22 is None else ())


def _architecture(sizes: TransformerSizes) -> str:
    """The family of a transformer whose sizes are not those of a published one."""
    if sizes.image_positions:
        return "wan_flf2v"
    return "wan_t2v" if sizes.in_dim == sizes.out_dim else "wan_i2v"


def _speech_layers(stored: Stored, path: Path) -> Family:
    sizes = speech_layer_sizes(stored, layer_count(stored, "blocks."))
    return Family("infinitetalk", Role.AUDIO, speech_layer_shapes(sizes))


def _speech_encoder(stored: Stored, path: Path) -> Family:
    sizes = speech_encoder_sizes(stored, layer_count(stored, "encoder.layers."))
    return Family("wav2vec2", Role.AUDIO, speech_encoder_shapes(sizes))


def _vae(stored: Stored, path: Path) -> Family:
    sizes = vae_sizes(stored)
    is_pruned = sizes.decoder_dim == PRUNED_DECODER_DIM and not sizes.staged
    name = VAES.get(sizes) or ("wan2.1_vae_pruned" if is_pruned else "wan_vae")
    return Family(name, Role.VAE, vae_shapes(sizes))


def _text_encoder(stored: Stored, path: Path) -> Family:
    refuse_other_text_encoder(stored)
    sizes = text_encoder_sizes(stored)
    return Family("umt5_xxl" if sizes == UMT5_XXL else "umt5", Role.TEXT_ENCODER, text_encoder_shapes(sizes))


def _image_encoder(stored: Stored, path: Path) -> Family:
    sizes = image_encoder_sizes(stored)
    name = "clip_vit_h" if sizes == VIT_H else "clip"
    return Family(name, Role.IMAGE_ENCODER, image_encoder_shapes(sizes), image_encoder_unused(sizes))


def _preview_decoder(stored: Stored, path: Path) -> Family:
    """A layer that grows frames may be stored for more than it makes; the last rows count."""
    sizes = preview_sizes(stored)
    decoder, encoder = preview_shapes(sizes), preview_encoder_shapes(sizes)
    for name in filter(GROWING.fullmatch, decoder):
        if name in stored and stored[name][1:] == decoder[name][1:]:
            decoder[name] = max(stored[name], decoder[name])
    name = PREVIEWS.get(sizes, "taew")
    return Family(name, Role.PREVIEW_DECODER, decoder | encoder, frozenset(encoder))


SPEECH_MARK = "audio_proj.proj1.weight"
# A tensor that this network has and those further down have not; several where a file may lack the first.
MARKS: tuple[tuple[str, Callable[[Stored, Path], Family]], ...] = (
    ("head.modulation", _transformer),
    ("blocks.0.self_attn.q.weight", _transformer),
    (SPEECH_MARK, _speech_layers),
    ("decoder.middle.0.residual.0.gamma", _vae),
    (MARK, _preview_decoder),
    (SUPER_MARK, _preview_decoder),
    ("blocks.0.pos_embedding.embedding.weight", _text_encoder),
    ("visual.cls_embedding", _image_encoder),
    ("feature_projection.projection.weight", _speech_encoder),
)
