"""What a folder lacks of a whole model, by the names under which the missing files are published. Pure, torch-free."""

from collections.abc import Callable, Iterable, Iterator
from math import prod

from engine.weights.families import I2V_A14B, T2V_A14B, Role
from engine.weights.identify import Description
from engine.weights.provenance import Expert

TRANSFORMER = "diffusion_pytorch_model.safetensors"
TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER = "google/umt5-xxl/spiece.model"
CONFIG = "config.json"
VAE_21, VAE_22 = "Wan2.1_VAE.pth", "Wan2.2_VAE.pth"
IMAGE_ENCODER = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"
EXPERTS = {expert: f"{expert}_model/{TRANSFORMER}" for expert in Expert}

WITH_EXPERTS = (T2V_A14B, I2V_A14B)
IMAGE_BRANCH = "img_emb.proj.0.bias"  # a parameter of transformers that attend to what the image encoder says
OWN_SIZES = ("wan_t2v", "wan_i2v", "wan_flf2v")  # whose number of heads is stated nowhere else than in the config
OFFICIAL_VAES = {16: VAE_21, 48: VAE_22}


def missing_files(
    models: Iterable[Description], *, has_tokenizer: bool, has_config: Callable[[Description], bool]
) -> tuple[str, ...]:
    """Official names of the files that are needed to generate with the transformers among `models`.

    has_tokenizer: whether there is one, as a file or inside another. has_config: whether a transformer's is beside it.
    Where there is no transformer at all, what every model needs is missing as far as it is not there.
    """
    present = list(models)
    transformers = [model for model in present if model.role is Role.TRANSFORMER]
    missing = dict.fromkeys([] if transformers else [TRANSFORMER])
    for transformer in transformers:
        missing |= dict.fromkeys(_missing_of(transformer, present, has_config(transformer)))
    if not any(model.role is Role.TEXT_ENCODER for model in present):
        missing[TEXT_ENCODER] = None
    if not has_tokenizer:
        missing[TOKENIZER] = None
    if not transformers and not any(model.role is Role.VAE for model in present):
        missing[VAE_21] = None
    return tuple(missing)


def _missing_of(transformer: Description, present: list[Description], has_config: bool) -> Iterator[str]:
    name = transformer.family.name
    if name in WITH_EXPERTS:
        yield from _missing_experts(name, present)
    if name in OWN_SIZES and not has_config:
        yield CONFIG
    if attends_to_pictures(transformer) and not any(model.role is Role.IMAGE_ENCODER for model in present):
        yield IMAGE_ENCODER
    channels = latent_channels(transformer)
    if channels not in {latent_channels(model) for model in present if model.role is Role.VAE}:
        yield OFFICIAL_VAES.get(channels, VAE_21)


def _missing_experts(name: str, present: list[Description]) -> Iterator[str]:
    """The experts that are not there; files whose names do not tell may be any of them."""
    files = [model for model in present if model.family.name == name]
    told = {model.family.expert for model in files if model.family.expert}
    untold = sum(model.family.expert is None for model in files)
    yield from [EXPERTS[expert] for expert in Expert if expert not in told][untold:]


def attends_to_pictures(transformer: Description) -> bool:
    """Whether a transformer has a use for the image encoder."""
    return IMAGE_BRANCH in transformer.family.expected


def latent_channels(model: Description) -> int:
    """Channels of the latents that a transformer makes or a VAE takes."""
    expected = model.family.expected
    if model.role is Role.VAE:
        return expected["conv2.weight"][0]
    return expected["head.head.bias"][0] // prod(expected["patch_embedding.weight"][2:])
