"""Published networks by name and form, as if their files were there: for plans of models that nobody has yet. Pure.

A name is that of a family; a form says how the large weights are stored, or what all weights are. Beside weights that
are made smaller all others are bfloat16, as most programs write them.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from math import prod
from pathlib import Path

from engine.errors import EngineError, ErrorCode
from engine.models.image_encoder import ImageEncoderConfig
from engine.models.text_encoder import TextEncoderConfig
from engine.models.transformer import TransformerConfig
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22Config
from engine.weights.card import QUANTIZED_FORMS, QUANTIZED_ROLES, fp4_shapes
from engine.weights.expected import (
    Shape,
    image_encoder_shapes,
    image_encoder_unused,
    text_encoder_shapes,
    transformer_shapes,
)
from engine.weights.expected_vae import vae_shapes
from engine.weights.families import T2V_14B, T2V_A14B, TRANSFORMERS, UMT5_XXL, VAES, VIT_H, Family, Role
from engine.weights.header import BITS, Header, TensorInfo
from engine.weights.identify import Amount, Description
from engine.weights.names import Layout
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import Part, QuantFormat, WeightSource
from engine.weights.transformer_config import HEAD_DIM

WEIGHT = ".weight"
FLOATS = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}
SIZES = {name: sizes for sizes, name in TRANSFORMERS.items()}
SIZES[T2V_A14B] = SIZES[T2V_14B]
UMT5, CLIP = "umt5_xxl", "clip_vit_h"
VAE_CONFIGS = {"wan2.1_vae": VideoVaeConfig(), "wan2.2_vae": VideoVae22Config()}


def known_network(name: str, form: str = "bf16") -> Description:
    """The network `name` as a file in `form` describes it, whole; its path is empty, and it cannot be loaded.

    Raises INVALID_SETTING for what is not known, naming what is.
    """
    families = known_families()
    if name not in families:
        raise _invalid("network", name, families)
    family = families[name]
    forms = (*FLOATS, *QUANTIZED_FORMS) if family.role in QUANTIZED_ROLES else tuple(FLOATS)
    if form not in forms:
        raise _invalid("form", form, forms)
    header: Header = {}
    sources = {name: _source(name, shape, form, header) for name, shape in family.expected.items()}
    amount = Amount(len(sources), sum(map(prod, family.expected.values())))
    disk = sum(info.byte_count for info in header.values())
    stored = (Path(), family, Layout.OFFICIAL, "", {form: amount}, amount.parameters, disk)
    return Description(*stored, (), (), sources, header)


def known_families() -> Mapping[str, Family]:
    """All networks that are known, by name."""
    families = [Family(name, Role.TRANSFORMER, transformer_shapes(sizes)) for name, sizes in SIZES.items()]
    families.append(Family(UMT5, Role.TEXT_ENCODER, text_encoder_shapes(UMT5_XXL)))
    families.append(Family(CLIP, Role.IMAGE_ENCODER, image_encoder_shapes(VIT_H), image_encoder_unused(VIT_H)))
    families += [Family(name, Role.VAE, vae_shapes(sizes)) for sizes, name in VAES.items()]
    return {family.name: family for family in families}


def known_transformer(name: str) -> TransformerConfig:
    """The sizes of the transformer `name`. Raises INVALID_SETTING for what is not known, naming what is."""
    if name not in SIZES:
        raise _invalid("network", name, SIZES)
    sizes = SIZES[name]
    return TransformerConfig(**dataclasses.asdict(sizes), num_heads=sizes.dim // HEAD_DIM)


def known_text_encoder() -> TextEncoderConfig:
    """The sizes of umT5-xxl."""
    return TextEncoderConfig(**dataclasses.asdict(UMT5_XXL))


def known_image_encoder() -> ImageEncoderConfig:
    """The sizes of CLIP's ViT-H/14."""
    return ImageEncoderConfig()


def known_vae(name: str) -> VideoVaeConfig:
    """The sizes of the VAE `name`. Raises INVALID_SETTING for what is not known, naming what is."""
    if name not in VAE_CONFIGS:
        raise _invalid("network", name, VAE_CONFIGS)
    return VAE_CONFIGS[name]


def _source(name: str, shape: Shape, form: str, header: Header) -> WeightSource:
    """Where a parameter lies in a file of that form; its tensors are put into `header`."""
    to = QUANTIZED_FORMS.get(form)
    layer = name.removesuffix(WEIGHT)
    if to is None or layer == name or not is_quantized_layer(layer, to):
        header[name] = _info(FLOATS.get(form, FLOATS["bf16"]), shape)
        return WeightSource(name, shape)
    parts = {}
    for part, info in _quantized(shape, to):
        stored = name if part is None else f"{layer}.{part}"
        header[stored] = info
        if part is not None:
            parts[part] = stored
    return WeightSource(name, shape, to, parts)


def _quantized(shape: Shape, to: QuantFormat) -> Iterator[tuple[Part | None, TensorInfo]]:
    """The stored tensor of a weight, under no part, and its scales."""
    if to is QuantFormat.FP8_E4M3:
        yield None, _info("F8_E4M3", shape)
        yield Part.WEIGHT_SCALE, _info("F32", ())
        return
    codes, scales = fp4_shapes(shape)
    yield None, _info("U8", codes)
    yield Part.WEIGHT_SCALE, _info("F8_E4M3", scales)
    yield Part.WEIGHT_SCALE_2, _info("F32", ())


def _info(dtype: str, shape: Shape) -> TensorInfo:
    return TensorInfo(dtype, shape, prod(shape) * BITS[dtype] // 8)


def _invalid(name: str, value: str, allowed: Iterable[str]) -> EngineError:
    return EngineError(ErrorCode.INVALID_SETTING, name=name, value=value, allowed=", ".join(allowed))
