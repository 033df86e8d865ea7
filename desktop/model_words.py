"""What the window says about model files: families, roles, forms and what is missing; pure, for the UI thread."""

from pathlib import Path
from typing import assert_never

from PySide6.QtCore import QCoreApplication

from desktop.state.found_models import FoundFile
from desktop.words import byte_text
from engine.errors import EngineError
from engine.weights.families import Role
from engine.weights.names import Layout
from engine.weights.provenance import Expert
from engine.weights.runnable import RunRefusal

translate = QCoreApplication.translate  # under this name lupdate finds the strings

# What files are called that carry no name of their own; their folder's says more.
NAMELESS = ("diffusion_pytorch_model", "model", "pytorch_model")
INNER_FOLDERS = (
    "transformer",
    "transformer_2",
    "vae",
    "text_encoder",
    "image_encoder",
    *(f"{e}_model" for e in Expert),
)
FORMS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float64": "fp64",
    "F32": "fp32",  # of files that are no network, as safetensors call them
    "F16": "fp16",
    "BF16": "bf16",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "fp8 e5m2",
    "mxfp8": "mxfp8",
    "nvfp4": "nvfp4",
    "int8_tensorwise": "int8",
}


def family_text(name: str) -> str:
    """A family as people call it; one without words keeps the engine's name."""
    families = {
        "wan2.1_t2v_1.3B": translate("models", "Wan 2.1 text to video, 1.3B"),
        "wan2.1_t2v_14B": translate("models", "Wan 2.1 text to video, 14B"),
        "wan2.1_i2v_14B": translate("models", "Wan 2.1 image to video, 14B"),
        "wan2.1_flf2v_14B": translate("models", "Wan 2.1 first and last frame to video, 14B"),
        "wan2.2_t2v_A14B": translate("models", "Wan 2.2 text to video, A14B"),
        "wan2.2_i2v_A14B": translate("models", "Wan 2.2 image to video, A14B"),
        "wan2.2_ti2v_5B": translate("models", "Wan 2.2 text and image to video, 5B"),
        "wan_t2v": translate("models", "Text to video, of another size"),
        "wan_i2v": translate("models", "Image to video, of another size"),
        "wan_flf2v": translate("models", "First and last frame to video, of another size"),
        "infinitetalk_i2v_14B": translate("models", "InfiniteTalk, 14B"),
        "infinitetalk": translate("models", "Speech layers of InfiniteTalk"),
        "wav2vec2": translate("models", "Speech encoder wav2vec 2"),
        "wan2.1_vae": translate("models", "VAE of Wan 2.1"),
        "wan2.1_vae_pruned": translate("models", "VAE of Wan 2.1, cut down"),
        "wan2.2_vae": translate("models", "VAE of Wan 2.2"),
        "wan_vae": translate("models", "VAE of another size"),
        "umt5_xxl": translate("models", "Text encoder umT5 XXL"),
        "umt5": translate("models", "Text encoder umT5, of another size"),
        "clip_vit_h": translate("models", "Image encoder CLIP ViT-H"),
        "clip": translate("models", "Image encoder CLIP, of another size"),
        "taew2_1": translate("models", "Small preview decoder for Wan 2.1"),
        "taew2_2": translate("models", "Small preview decoder for Wan 2.2"),
        "taew2_2_super": translate("models", "Preview decoder for Wan 2.2"),
        "taew": translate("models", "Preview decoder of another size"),
        "wan_1.3B_lora": translate("models", "LoRA for Wan 1.3B"),
        "wan_5B_lora": translate("models", "LoRA for Wan 5B"),
        "wan_14B_lora": translate("models", "LoRA for Wan 14B"),
        "wan_lora": translate("models", "LoRA for Wan"),
        "latents": translate("models", "Latents of a video"),
    }
    return families.get(name, name)


def role_text(role: Role) -> str:
    """What a file is for."""
    match role:
        case Role.TRANSFORMER:
            return translate("models", "makes the video")
        case Role.TEXT_ENCODER:
            return translate("models", "reads the prompt")
        case Role.VAE:
            return translate("models", "turns what was sampled into pictures")
        case Role.IMAGE_ENCODER:
            return translate("models", "looks at the picture that a video begins with")
        case Role.PREVIEW_DECODER:
            return translate("models", "shows a preview while sampling")
        case Role.AUDIO:
            return translate("models", "moves lips to speech")
        case Role.LORA:
            return translate("models", "changes the style or the speed of a model")
        case Role.LATENTS:
            return translate("models", "can be decoded")
        case _:
            assert_never(role)


def layout_text(layout: Layout) -> str:
    """Whose names the tensors of a file have."""
    match layout:
        case Layout.OFFICIAL:
            return translate("models", "named as in the official files")
        case Layout.PREFIXED:
            return translate("models", "named as by ComfyUI")
        case Layout.DIFFUSERS:
            return translate("models", "named as by diffusers")
        case Layout.TRANSFORMERS:
            return translate("models", "named as by transformers")
        case Layout.GGUF:
            return translate("models", "a GGUF file")
        case _:
            assert_never(layout)


def stored_text(file: FoundFile) -> str:
    """The form that most of the parameters are stored in, as programs of the kind abbreviate it."""
    amounts = file.model.quantization
    form = max(amounts, key=lambda form: amounts[form].parameters, default="")
    return FORMS.get(form, form)


def expert_text(expert: Expert | None) -> str:
    """Which steps an expert or a LoRA is for."""
    match expert:
        case None:
            return translate("models", "Both experts")
        case Expert.HIGH_NOISE:
            return translate("models", "High noise")
        case Expert.LOW_NOISE:
            return translate("models", "Low noise")
        case _:
            assert_never(expert)


def what_text(file: FoundFile) -> str:
    """What a file is, with its expert and the form of its weights."""
    expert = file.model.family.expert
    words = [
        family_text(file.model.family.name),
        "" if expert is None else expert_text(expert).lower(),
        stored_text(file),
    ]
    return " · ".join(filter(None, words))


def ability_text(file: FoundFile) -> str:
    """What a file can do, or why it cannot."""
    return role_text(file.role) if file.refusal is None else refusal_text(file.refusal)


def size_text(file: FoundFile) -> str:
    """What a file takes on the card, or on disk if it does not go there as it is."""
    stored = file.report.card.get("as_stored")
    if stored is None:
        return byte_text(file.model.bytes_on_disk)
    return translate("models", "{size} on the card").format(size=byte_text(stored))


def details_text(file: FoundFile) -> str:
    """All about a file, for those who let the pointer rest on it."""
    model = file.model
    parts = len(file.report.files)
    lines = [
        str(file.path) + (translate("models", " and {count} more parts").format(count=parts - 1) if parts > 1 else ""),
        f"{family_text(model.family.name)}: {role_text(model.role)}",
        translate("models", "{count} parameters, {form}, {layout}").format(
            count=f"{model.parameters:,}", form=stored_text(file), layout=layout_text(model.layout)
        ),
    ]
    if model.family.alternatives:
        others = ", ".join(map(family_text, model.family.alternatives))
        lines.append(translate("models", "It may be {others} as well: only its name would tell.").format(others=others))
    if file.refusal is not None:
        lines.append(refusal_text(file.refusal))
    return "\n".join(lines)


def display_name(path: Path) -> str:
    """A file's name without its ending; of one that is called as all others are, the name of its model's folder."""
    if not path.stem.split("-0")[0].startswith(NAMELESS):
        return path.stem
    folder = path.parent
    return f"{folder.parent.name}/{folder.name}" if folder.name in INNER_FOLDERS else folder.name


def refusal_text(refusal: RunRefusal) -> str:
    """Why this version cannot use a file that it knows."""
    match refusal:
        case RunRefusal.NEEDS_SOUND:
            return translate("models", "This model follows speech, which Tessera cannot give it yet.")
        case RunRefusal.LACKS_PARAMETERS:
            return translate("models", "This file lacks a part of its network. Copy it again from where you got it.")
        case _:
            assert_never(refusal)


def refused_text(error: EngineError) -> str:
    """Why a file is no model that can be used; the reason is the reader's own."""
    reason = str(error.details.get("reason", error))
    return translate("models", "Cannot be used: {reason}").format(reason=reason)
