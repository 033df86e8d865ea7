"""Every form in which people have the real checkpoints is recognised, with the scales that belong to each layer."""

import json
import math
from pathlib import Path

import pytest

from engine.weights.card import bytes_on_card
from engine.weights.families import Role
from engine.weights.identify import identify
from engine.weights.inspect import FileReport, inspect
from engine.weights.names import Layout
from engine.weights.source import Part, QuantFormat, WeightSource
from tests.engine.identifying import identified, is_complete, small
from tests.engine.manifests import (
    FAMILIES,
    FORMS,
    TRANSFORMERS,
    Tensors,
    by_others,
    content,
    header_of,
    in_dtype,
    is_block_weight,
    quantized,
    shapes,
)
from tests.engine.sparse_files import write_sparse


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("manifest", TRANSFORMERS)
def test_quantised_transformers(manifest: str, form: str) -> None:
    """Behind a prefix that what the header declares is named without, as real files have it."""
    tensors, metadata = quantized(shapes(manifest), form)
    prefix = "model.diffusion_model."
    found = identified({prefix + name if name != "scaled_fp8" else name: of for name, of in tensors.items()}, metadata)
    assert found.family.name == FAMILIES[manifest]
    assert is_complete(found)
    blocks = {name: shape for name, shape in shapes(manifest).items() if is_block_weight(name, shape)}
    assert (
        len(blocks)
        == (12 if "flf2v" in manifest or manifest == "wan2.1_i2v_14B" else 10)
        * content(manifest)["config"]["num_layers"]
    )
    amount = found.quantization[FORMS[form]]
    assert (amount.layers, amount.parameters) == (len(blocks), sum(map(math.prod, blocks.values())))
    assert set(found.quantization) == {FORMS[form], "bfloat16"}
    assert {name: source.shape for name, source in found.sources.items()} == shapes(manifest)


def test_the_parts_of_every_form_are_found() -> None:
    """The tensors beside one weight, as the numerics take them."""
    layer = "blocks.0.ffn.0"

    def source(form: str) -> WeightSource:
        return identified(*quantized(small("wan2.1_t2v_1.3B"), form)).sources[f"{layer}.weight"]

    assert source("cast_fp8").parts == {}
    assert source("scaled_fp8").parts == {
        Part.WEIGHT_SCALE: f"{layer}.scale_weight", Part.INPUT_SCALE: f"{layer}.scale_input",
    }  # fmt: skip
    assert source("lightx2v_fp8").parts == {Part.WEIGHT_SCALE: f"{layer}.weight_scale"}
    quanto = source("quanto_int8")
    assert quanto.name == f"{layer}.weight._data"
    assert quanto.parts[Part.WEIGHT_SCALE] == f"{layer}.weight._scale"
    nvfp4 = source("comfy_nvfp4")
    assert nvfp4.parts == {
        Part.WEIGHT_SCALE: f"{layer}.weight_scale", Part.WEIGHT_SCALE_2: f"{layer}.weight_scale_2",
    }  # fmt: skip
    assert not nvfp4.low_nibble_first
    lightx2v = source("lightx2v_nvfp4")
    assert lightx2v.low_nibble_first
    assert lightx2v.parts == {
        Part.WEIGHT_SCALE: f"{layer}.weight_scale", Part.WEIGHT_SCALE_2: f"{layer}.alpha",
        Part.INPUT_SCALE: f"{layer}.input_global_scale",
    }  # fmt: skip
    assert source("comfy_int8").rotation == 256
    assert source("lightx2v_int8").rotation == 0


@pytest.mark.parametrize("form", ["comfy_nvfp4", "comfy_mxfp8", "lightx2v_nvfp4", "nvfp4_in_pairs"])
def test_padding_is_cut_off_by_what_the_network_expects(form: str) -> None:
    """Widths that are no multiple of 16 or 32, which no published model has: the true shape is the family's."""
    odd = {name: tuple(1500 if size == 1536 else 8999 if size == 8960 else size for size in shape)
           for name, shape in small("wan2.1_t2v_1.3B").items()}  # fmt: skip
    odd["time_projection.1.weight"], odd["time_projection.1.bias"] = (9000, 1500), (9000,)
    found = identified(*quantized(odd, form))
    assert found.family.name == "wan_t2v"
    assert is_complete(found)
    assert found.sources["blocks.1.ffn.2.weight"].shape == (1500, 8999)
    assert {name: source.shape for name, source in found.sources.items()} == odd


@pytest.mark.parametrize("form", ["nvfp4", "mxfp8", "float8_e4m3fn"])
def test_a_format_may_be_declared_beside_each_weight(form: str) -> None:
    by_form = {"nvfp4": "comfy_nvfp4", "mxfp8": "comfy_mxfp8", "float8_e4m3fn": "comfy_fp8"}
    tensors, _ = quantized(small("wan2.1_i2v_14B"), by_form[form])
    text = json.dumps({"format": form, "full_precision_matrix_mult": True}).encode()
    declared = {
        f"{name.removesuffix('.weight')}.comfy_quant" for name in tensors if is_block_weight(name, tensors[name][1])
    }
    tensors |= dict.fromkeys(declared, ("U8", (len(text),)))
    found = identified(tensors, contents=dict.fromkeys(declared, text))
    assert is_complete(found)
    assert found.quantization[form].layers == len(declared) == 24


def test_a_scaled_umt5_holds_a_scale_for_each_of_its_168_products() -> None:
    official = shapes("umt5_xxl_encoder_official")
    theirs = {name: stored for stored, name in by_others("umt5_xxl_encoder_official").items()}
    tensors: Tensors = {"spiece_model": ("U8", (4_548_313,)), "scaled_fp8": ("F8_E4M3", (0,))}
    for name, shape in official.items():
        is_product = ".attn." in name or ".ffn." in name
        tensors[theirs[name]] = ("F8_E4M3" if is_product else "F16", shape)
        tensors |= {theirs[name].removesuffix("weight") + "scale_weight": ("F32", ())} if is_product else {}
    tensors["encoder.embed_tokens.weight"] = ("F16", official["token_embedding.weight"])
    found = identified(tensors)
    assert (found.family.name, found.role) == ("umt5_xxl", Role.TEXT_ENCODER)
    assert is_complete(found)
    assert found.quantization["float8_e4m3fn"].layers == 168
    assert found.sources["blocks.23.ffn.gate.0.weight"] == WeightSource(
        "encoder.block.23.layer.1.DenseReluDense.wi_0.weight", (10240, 4096), QuantFormat.FP8_E4M3,
        {Part.WEIGHT_SCALE: "encoder.block.23.layer.1.DenseReluDense.wi_0.scale_weight"},
    )  # fmt: skip


def test_gguf_transformers_have_official_names_and_blocks() -> None:
    """Modulation may have lost the ones at its front, and a folded patch embedding is still the same values."""
    tensors = header_of(in_dtype(shapes("wan2.1_t2v_14B"), "F32"))
    for name, info in tensors.items():
        if is_block_weight(name, info.shape):
            tensors[name] = type(info)("Q4_K", info.shape, math.prod(info.shape) // 256 * 144)
    modulation, patches = tensors["blocks.3.modulation"], tensors["patch_embedding.weight"]
    tensors["blocks.3.modulation"] = type(modulation)("F32", (6, 5120), modulation.byte_count)
    tensors["patch_embedding.weight"] = type(patches)("F16", (5120 * 16, 1, 2, 2), patches.byte_count)
    found = identify(tensors, {}, Path("wan2.1-t2v-14b-Q4_K_M.gguf"), lambda name: b"")
    assert (found.family.name, found.layout) == ("wan2.1_t2v_14B", Layout.GGUF)
    assert is_complete(found)
    assert found.quantization["Q4_K"].layers == 400
    assert found.sources["blocks.3.modulation"].shape == (1, 6, 5120)
    assert found.sources["patch_embedding.weight"].shape == (5120, 16, 1, 2, 2)
    assert bytes_on_card(found)["as_stored"] == found.bytes_on_disk


def test_every_form_of_the_large_model_fits_where_it_is_promised_to() -> None:
    found = identified(in_dtype(shapes("wan2.1_t2v_14B")))
    card = bytes_on_card(found)
    assert card["bf16"] == card["as_stored"] == 2 * content("wan2.1_t2v_14B")["parameter_count"]
    assert card["fp4_scaled"] <= 8.4e9
    assert card["fp8_scaled"] <= 14.5e9


def test_a_file_on_disk_reads_as_its_header_says(tmp_path: Path) -> None:
    write_sparse(tmp_path / "wan2.1_t2v_14B.safetensors", *quantized(shapes("wan2.1_t2v_14B"), "comfy_nvfp4"))
    report = inspect(tmp_path / "wan2.1_t2v_14B.safetensors")
    assert isinstance(report, FileReport)
    assert is_complete(report.model)
    assert abs(report.card["as_stored"] - report.card["fp4_scaled"]) < 1e6
