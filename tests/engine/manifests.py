"""Names and shapes of the real checkpoints, and the same under the names and in the forms of other programs."""

import json
import math
import re
from pathlib import Path
from typing import Any

from engine.weights.header import Header, TensorInfo
from tests.engine.sparse_files import byte_count

DATA = Path(__file__).resolve().parent.parent / "parity" / "data"
TRANSFORMERS = (
    "wan2.1_t2v_1.3B", "wan2.1_t2v_14B", "wan2.1_i2v_14B", "wan2.1_flf2v_14B", "wan2.2_t2v_A14B", "wan2.2_i2v_A14B",
    "wan2.2_ti2v_5B",
)  # fmt: skip
# What each manifest is recognised as under a name that says nothing.
FAMILIES = {name: name for name in TRANSFORMERS} | {
    "wan2.2_t2v_A14B": "wan2.1_t2v_14B",
    "wan2.1_vae": "wan2.1_vae",
    "wan2.2_vae": "wan2.2_vae",
    "umt5_xxl_encoder_official": "umt5_xxl",
    "umt5_xxl_encoder_hf_comfy": "umt5_xxl",
    "clip_vit_h_visual": "clip_vit_h",
    "taew2_1": "taew2_1",
    "taew2_2": "taew2_2",
    "taew2_2_super": "taew2_2_super",
    "infinitetalk_single": "infinitetalk",
    "wav2vec2_chinese_base": "wav2vec2",
}
RULES = dict.fromkeys(TRANSFORMERS, "transformer") | {
    "wan2.1_vae": "video_vae",
    "wan2.2_vae": "video_vae22",
    "umt5_xxl_encoder_official": "text_encoder",
}
BLOCK_WEIGHT = re.compile(r"blocks\.\d+\.(?:.*_)?(?:attn|ffn)\..+\.weight")

Shape = tuple[int, ...]
Tensors = dict[str, tuple[str, Shape]]  # dtype, as safetensors name it, and shape


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    return loaded


def shapes(name: str) -> dict[str, Shape]:
    """The tensors of a manifest by their names."""
    return {tensor: tuple(shape) for tensor, shape in content(name)["tensors"].items()}


def in_dtype(shapes: dict[str, Shape], dtype: str = "BF16") -> Tensors:
    return {name: (dtype, shape) for name, shape in shapes.items()}


def renamed(name: str, table: str) -> str:
    """`name` by the first rule of a table of `renames.json` that it fits."""
    for pattern, replacement in content("renames")[table]:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def by_others(manifest: str) -> dict[str, str]:
    """Official names by those of diffusers or transformers."""
    rules = [(re.compile(pattern), new) for pattern, new in content("renames")[RULES[manifest]]]

    def rename(name: str) -> str:
        return next((pattern.sub(new, name) for pattern, new in rules if pattern.search(name)), name)

    return {rename(name): name for name in shapes(manifest)}


def is_block_weight(name: str, shape: Shape) -> bool:
    """Whether the parameter is one that published quantised files store smaller."""
    return len(shape) == 2 and BLOCK_WEIGHT.fullmatch(name) is not None


def header_of(tensors: Tensors) -> Header:
    return {name: TensorInfo(dtype, shape, byte_count(dtype, shape)) for name, (dtype, shape) in tensors.items()}


def padded(shape: Shape, multiple: int) -> Shape:
    return tuple(math.ceil(size / multiple) * multiple for size in shape)


def quantized(shapes: dict[str, Shape], form: str) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a file that stores the weights of its blocks in `form`, and its metadata."""
    tensors: Tensors = {}
    layers: dict[str, dict[str, Any]] = {}
    for name, shape in shapes.items():
        if not is_block_weight(name, shape):
            tensors[name] = ("BF16", shape)
            continue
        layer = name.removesuffix(".weight")
        stored, declared = STORED[form](shape)
        tensors |= {layer + ending: tensor for ending, tensor in stored.items()}
        if declared:
            layers[layer] = declared
    tensors |= {"scaled_fp8": ("F8_E4M3", (2,))} if form == "scaled_fp8" else {}
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})} if layers else {}
    return tensors, metadata


def _nvfp4(shape: Shape) -> Tensors:
    rows, columns = padded(shape, 16)
    scales = (padded((rows,), 128)[0], padded((columns // 16,), 4)[0])
    return {
        ".weight": ("U8", (rows, columns // 2)), ".weight_scale": ("F8_E4M3", scales), ".weight_scale_2": ("F32", ()),
    }  # fmt: skip


def _mxfp8(shape: Shape) -> Tensors:
    rows, columns = padded(shape, 32)
    return {".weight": ("F8_E4M3", (rows, columns)), ".weight_scale": ("U8", (rows, columns // 32))}


def _lightx2v(shape: Shape) -> Tensors:
    return {
        name: tensor for name, tensor in _nvfp4(shape).items() if name != ".weight_scale_2"
    } | {".alpha": ("F32", ()), ".input_global_scale": ("F32", ())}  # fmt: skip


def _fp8(shape: Shape, scale: str, scale_shape: Shape, dtype: str = "F8_E4M3") -> Tensors:
    return {".weight": (dtype, shape), scale: ("F32", scale_shape)}


STORED: dict[str, Any] = {
    "cast_fp8": lambda shape: ({".weight": ("F8_E5M2", shape)}, None),
    "scaled_fp8": lambda shape: (_fp8(shape, ".scale_weight", ()) | {".scale_input": ("F32", ())}, None),
    "fp8_one_scale": lambda shape: (_fp8(shape, ".weight_scale", (1,)), None),
    "fp8_scale_a_row": lambda shape: (_fp8(shape, ".weight_scale", (shape[0],)), None),
    "lightx2v_fp8": lambda shape: (_fp8(shape, ".weight_scale", (shape[0], 1)), None),
    "lightx2v_int8": lambda shape: (_fp8(shape, ".weight_scale", (shape[0], 1), "I8"), None),
    "lightx2v_nvfp4": lambda shape: (_lightx2v(shape), None),
    "quanto_int8": lambda shape: (
        {
            ".weight._data": ("I8", shape), ".weight._scale": ("BF16", (shape[0], 1)),
            ".input_scale": ("F32", ()), ".output_scale": ("F32", ()),
        },
        None,
    ),
    "comfy_fp8": lambda shape: (_fp8(shape, ".weight_scale", ()), {"format": "float8_e4m3fn"}),
    "comfy_nvfp4": lambda shape: (_nvfp4(shape), {"format": "nvfp4"}),
    "nvfp4_in_pairs": lambda shape: (_nvfp4(shape) | {".weight": ("F4", padded(shape, 16))}, None),
    "comfy_mxfp8": lambda shape: (_mxfp8(shape), {"format": "mxfp8"}),
    "comfy_int8": lambda shape: (
        _fp8(shape, ".weight_scale", (shape[0], 1), "I8"),
        {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256},
    ),
}  # fmt: skip
# What the stored weights of each are called in the report.
FORMS = {
    "cast_fp8": "float8_e5m2", "scaled_fp8": "float8_e4m3fn", "fp8_one_scale": "float8_e4m3fn",
    "fp8_scale_a_row": "float8_e4m3fn", "lightx2v_fp8": "float8_e4m3fn", "lightx2v_int8": "int8_tensorwise",
    "lightx2v_nvfp4": "nvfp4", "nvfp4_in_pairs": "nvfp4",
    "quanto_int8": "int8_tensorwise", "comfy_fp8": "float8_e4m3fn", "comfy_nvfp4": "nvfp4",
    "comfy_mxfp8": "mxfp8", "comfy_int8": "int8_tensorwise",
}  # fmt: skip
