"""Sizes of all networks of a model and what their weights take: of files, or of a published model that nobody has yet.

Only headers are read, nothing is loaded. Engine thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from engine.clip import Model
from engine.errors import EngineError, ErrorCode
from engine.model_choice import LoraUse, WeightForm
from engine.models.image_encoder import ImageEncoderConfig
from engine.models.text_encoder import TextEncoderConfig
from engine.models.transformer import TransformerConfig
from engine.models.video_vae import VideoVaeConfig
from engine.pictures.road import PictureUse, picture_use
from engine.weights.card import NetworkBytes, network_bytes, stays_in_files
from engine.weights.configs import image_encoder_config, shapes_of, text_encoder_config
from engine.weights.detect import ModelFiles
from engine.weights.families import Role
from engine.weights.header import invalid
from engine.weights.known import (
    CLIP,
    SIZES,
    UMT5,
    known_image_encoder,
    known_network,
    known_text_encoder,
    known_transformer,
    known_vae,
)
from engine.weights.load_swapped import files_of, transformer_network_bytes
from engine.weights.mapped_file import DTYPES
from engine.weights.provenance import Expert
from engine.weights.whole import describe

VAE_OF_CHANNELS = {16: "wan2.1_vae", 48: "wan2.2_vae"}


@dataclass(frozen=True, slots=True)
class Networks:
    """What plans depend on. Of two transformers the bytes are those of the larger at every place.

    in_files: whether swapped blocks can wait in their files. image_encoder: of models that attend to features of
    pictures; None for all others, and without its file.
    """

    transformer: TransformerConfig
    transformer_bytes: NetworkBytes
    text_encoder: TextEncoderConfig
    text_encoder_bytes: NetworkBytes
    vae: VideoVaeConfig
    in_files: bool = False
    image_encoder: ImageEncoderConfig | None = None
    image_encoder_bytes: NetworkBytes | None = None

    @property
    def pictures(self) -> PictureUse:
        """What the transformer does with pictures."""
        return picture_use(self.transformer, self.transformer.model_type)


def networks_of(model: Model, dtype: torch.dtype, form: WeightForm, loras: Sequence[LoraUse]) -> Networks:
    """The networks in the files of `model`, plain values as `dtype`. Raises MODEL_INVALID."""
    files = model.files
    check_experts(files)
    experts = [None] if files.low_noise is None else list(Expert)
    found = [transformer_network_bytes(files, dtype, form, loras, expert) for expert in experts]
    text = describe(files.text_encoder, Role.TEXT_ENCODER)
    networks = Networks(
        transformer=model.transformer,
        transformer_bytes=_larger(found),
        text_encoder=text_encoder_config(files),
        text_encoder_bytes=network_bytes(text, WeightForm.STORED, dtype.itemsize),
        vae=model.vae,
        in_files=not loras and all(_stays_in_files(files, dtype, form, expert) for expert in experts),
    )
    if files.image_encoder is None:
        return networks
    image = describe(files.image_encoder, Role.IMAGE_ENCODER)
    taken = network_bytes(image, WeightForm.STORED, dtype.itemsize)
    return replace(networks, image_encoder=image_encoder_config(files.image_encoder), image_encoder_bytes=taken)


def check_experts(files: ModelFiles) -> None:
    """See that the second of two transformers is as large as the first everywhere. Raises MODEL_INVALID."""
    if files.low_noise is None:
        return
    first, second = (shapes_of(describe(each, Role.TRANSFORMER)) for each in (files.transformer, files.low_noise))
    if first != second:
        reason = f"its sizes are not those of {files.transformer[0].name}, which it is to go on from"
        raise invalid(files.low_noise[0], reason)


def _stays_in_files(files: ModelFiles, dtype: torch.dtype, form: WeightForm, expert: Expert | None) -> bool:
    names = {kind: name for name, kind in DTYPES.items()}
    return stays_in_files(describe(files_of(files, expert), Role.TRANSFORMER), form, names[dtype])


def known_networks(name: str, form: str, weights: WeightForm, dtype: torch.dtype) -> Networks:
    """The published model `name`, its transformer stored in `form` and brought into `weights`.

    Raises INVALID_SETTING, naming what is known.
    """
    if name not in SIZES:
        allowed = f"a folder, or NAME:FORM with a name of {', '.join(SIZES)}"
        raise EngineError(ErrorCode.INVALID_SETTING, name="model", value=name, allowed=allowed)

    def taken(network: str, form: str = "bf16", weights: WeightForm = WeightForm.STORED) -> NetworkBytes:
        return network_bytes(known_network(network, form), weights, dtype.itemsize)

    transformer = known_transformer(name)
    networks = Networks(
        transformer=transformer,
        transformer_bytes=taken(name, form, weights),
        text_encoder=known_text_encoder(),
        text_encoder_bytes=taken(UMT5),
        vae=known_vae(VAE_OF_CHANNELS[transformer.out_dim]),
    )
    if not transformer.has_image_branch:
        return networks
    return replace(networks, image_encoder=known_image_encoder(), image_encoder_bytes=taken(CLIP))


def _larger(found: Sequence[NetworkBytes]) -> NetworkBytes:
    """At every place the most of what two networks of the same sizes take, each in its own form."""
    blocks = tuple(map(max, zip(*(each.blocks for each in found), strict=True)))
    most = {name: max(getattr(each, name) for each in found) for name in ("shell", "work", "host", "loading")}
    return NetworkBytes(blocks=blocks, **most)
