"""Folders of models as people have them, of true size and without values, and what inspection says of them."""

from pathlib import Path

from desktop.state.found_models import FoundFile, FoundModels, Search, without_tensors
from engine.weights.inspect import FileReport, inspect
from tests.engine.manifests import Tensors, in_dtype, quantized, shapes
from tests.engine.sparse_files import write_sparse

FP8 = "scaled_fp8"
T2V_14B = "diffusion_models/wan2.1_t2v_14B_bf16.safetensors"
T2V_14B_FP8 = "diffusion_models/Wan2_1-T2V-14B_fp8.safetensors"
T2V_SMALL = "diffusion_models/wan2.1_t2v_1.3B.safetensors"
TI2V_5B = "diffusion_models/wan2.2_ti2v_5B.safetensors"
I2V_14B = "diffusion_models/wan2.1_i2v_14B.safetensors"
HIGH, LOW = (f"diffusion_models/wan2.2_t2v_{each}_noise_14B.safetensors" for each in ("high", "low"))
VAE_21, VAE_22 = "vae/wan_2.1_vae.safetensors", "vae/wan2.2_vae.safetensors"
TEXT_ENCODER = "text_encoders/umt5_xxl.safetensors"
CLIP = "clip_vision/clip_vision_h.safetensors"
LORA_14B, LORA_SMALL = "loras/grain_14B.safetensors", "loras/anime_1.3B.safetensors"
REFUSED = "diffusion_models/flux.safetensors"
MANIFESTS = {
    T2V_14B: "wan2.1_t2v_14B", T2V_SMALL: "wan2.1_t2v_1.3B", TI2V_5B: "wan2.2_ti2v_5B", I2V_14B: "wan2.1_i2v_14B",
    HIGH: "wan2.2_t2v_A14B", LOW: "wan2.2_t2v_A14B", VAE_21: "wan2.1_vae", VAE_22: "wan2.2_vae",
    CLIP: "clip_vit_h_visual",
}  # fmt: skip
WIDTHS = {LORA_14B: 5120, LORA_SMALL: 1536}
WHOLE = (T2V_SMALL, VAE_21, TEXT_ENCODER)


def put(folder: Path, *names: str) -> Path:
    """Write these files; returns the folder."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name == REFUSED:
            file.write_bytes(b"\x10\0\0\0\0\0\0\0" + b"{" * 16)
        else:
            write_sparse(file, *_tensors(name))
    return folder


def _tensors(name: str) -> tuple[Tensors, dict[str, str]]:
    if name == T2V_14B_FP8:
        return quantized(shapes("wan2.1_t2v_14B"), FP8)
    if name == TEXT_ENCODER:
        return in_dtype(shapes("umt5_xxl_encoder_official")) | {"spiece_model": ("U8", (9,))}, {}
    if name in WIDTHS:
        layer = "diffusion_model.blocks.0.self_attn.q.lora_"
        return in_dtype({f"{layer}down.weight": (8, WIDTHS[name]), f"{layer}up.weight": (WIDTHS[name], 8)}, "F16"), {}
    return in_dtype(shapes(MANIFESTS[name])), {}


def found_file(file: Path) -> FoundFile:
    """What the inspector tells of a file."""
    report = inspect(file)
    assert isinstance(report, FileReport)
    return FoundFile(without_tensors(report), file.with_name("config.json").is_file())


def feed(found: FoundModels, folder: Path, *names: str) -> None:
    """Find these files in `folder` as the inspector would, and end the search."""
    searches: list[Search] = []
    found.search_requested.connect(searches.append)
    found.add_place(folder)
    found.search_requested.disconnect(searches.append)
    for name in names:
        found.add_file(searches[0], found_file(folder / name))
    found.end_search(searches[0], "")
