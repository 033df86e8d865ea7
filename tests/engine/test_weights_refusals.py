"""What is not supported, damaged or forged is refused by name, and nothing makes identification fall over."""

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import EngineError, ErrorCode
from engine.weights.header import BITS, Header, TensorInfo
from engine.weights.identify import NOT_NEEDED, Description, identify
from engine.weights.quantization import NOT_NEEDED as BESIDE
from tests.engine.identifying import SILENT, identified, small
from tests.engine.manifests import (
    FAMILIES,
    FORMS,
    Tensors,
    by_others,
    header_of,
    in_dtype,
    quantized,
    shapes,
)


def refused(tensors: Tensors, metadata: dict[str, str] | None = None, contents: dict[str, bytes] | None = None) -> str:
    with pytest.raises(EngineError) as caught:
        identified(tensors, metadata, contents=contents)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(SILENT)
    return str(caught.value.details["reason"])


NEIGHBOURS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "VACE": ("wan2.1_t2v_14B", {"vace_patch_embedding.weight": (5120, 96, 1, 2, 2)}),
    "camera": ("wan2.1_i2v_14B", {"control_adapter.conv.weight": (5120, 1536, 2, 2)}),
    "S2V": ("wan2.1_t2v_14B", {"casual_audio_encoder.weights": (1, 25, 1, 1)}),
    "HuMo": ("wan2.1_t2v_14B", {"audio_proj.audio_proj_glob_1.layer.weight": (512, 1280)}),
    "Animate": ("wan2.1_i2v_14B", {"face_adapter.fuser_blocks.0.k_norm.weight": (128,)}),
    "Fun control": ("wan2.1_i2v_14B", {"patch_embedding.weight": (5120, 48, 1, 2, 2)}),
    "Wan Fun control": ("wan2.1_t2v_14B", {"patch_embedding.weight": (5120, 52, 1, 2, 2)}),
    "camera control": ("wan2.1_i2v_14B", {"patch_embedding.weight": (5120, 32, 1, 2, 2)}),
    "transformer of 64 to 16 channels": ("wan2.1_i2v_14B", {"patch_embedding.weight": (5120, 64, 1, 2, 2)}),
}


@pytest.mark.parametrize("network", NEIGHBOURS)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_neighbours_are_refused_by_name(network: str, prefix: str) -> None:
    base, own = NEIGHBOURS[network]
    reason = refused(in_dtype({prefix + name: shape for name, shape in (small(base) | own).items()}))
    assert network in reason
    assert "not supported" in reason


def test_neighbours_of_diffusers_are_refused_by_name() -> None:
    theirs = {stored: small("wan2.1_t2v_14B").get(name, (1,)) for stored, name in by_others("wan2.1_t2v_14B").items()}
    assert "VACE" in refused(in_dtype(theirs | {"vace_blocks.0.proj_out.weight": (5120, 5120)}))


def test_a_t5_that_is_not_umt5_is_refused_by_name() -> None:
    t5 = {name: shape for name, shape in shapes("umt5_xxl_encoder_official").items()
          if "pos_embedding" not in name or name.startswith("blocks.0.")}  # fmt: skip
    assert "umT5" in refused(in_dtype(t5))


def test_several_networks_in_one_file_are_refused() -> None:
    tensors = {f"model.diffusion_model.{name}": shape for name, shape in small("wan2.1_t2v_14B").items()}
    tensors |= {"vae.conv1.weight": (32, 32, 1, 1, 1)}
    assert "several networks" in refused(in_dtype(tensors))


@pytest.mark.parametrize("form", ["convrot_w4a4", "asym_w4a8_int8", "awq_w4a16"])
def test_formats_that_are_not_read_are_refused_by_name(form: str) -> None:
    tensors = in_dtype(small("wan2.1_t2v_1.3B"))
    tensors["blocks.0.ffn.0.weight"] = ("I8", (8960, 768))
    tensors["blocks.0.ffn.0.weight_scale"] = ("F32", (8960,))
    metadata = {"_quantization_metadata": json.dumps({"layers": {"blocks.0.ffn.0": {"format": form}}})}
    assert form in refused(tensors, metadata)


@pytest.mark.parametrize(("ending", "form"), [("weight_s_rel", "asym_w4a8_int8"), ("weight_zeros", "awq_w4a16")])
def test_undeclared_formats_that_are_not_read_are_refused_by_name(ending: str, form: str) -> None:
    tensors = in_dtype(small("wan2.1_t2v_1.3B"))
    tensors[f"blocks.0.ffn.0.{ending}"] = ("F16", (24, 8960))
    assert form in refused(tensors)


@pytest.mark.parametrize(
    "declaration",
    [b"", b"{", b"[]", b'{"format": 3}', b'{"format": "nvfp4"}', b'{"format": "gguf"}', b"\xff\xfe", b"null", b"{}"],
)
def test_declarations_that_do_not_fit_are_refused(declaration: bytes) -> None:
    tensors, _ = quantized(small("wan2.1_t2v_1.3B"), "comfy_fp8")
    name = "blocks.1.ffn.2.comfy_quant"
    tensors[name] = ("U8", (len(declaration),))
    assert "blocks.1.ffn.2" in refused(tensors, contents={name: declaration})


def test_a_tensor_of_another_shape_is_named() -> None:
    tensors = shapes("wan2.1_t2v_1.3B") | {"blocks.7.cross_attn.k.weight": (1536, 1535)}
    reason = refused(in_dtype(tensors))
    assert reason == "wrong shape: blocks.7.cross_attn.k.weight [1536, 1535] instead of [1536, 1536]"


def test_a_scale_that_would_be_ignored_is_refused() -> None:
    scaled: Tensors = {"blocks.0.ffn.0.weight_scale": ("F32", ())}
    assert "has a scale" in refused(in_dtype(small("wan2.1_t2v_1.3B")) | scaled)


@pytest.mark.parametrize("shape", [(2,), (8960, 2), (1536,), (8959, 1), (1, 8960, 2)])
def test_scales_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    tensors, _ = quantized(small("wan2.1_t2v_1.3B"), "fp8_one_scale")
    assert "scale of the shape" in refused(tensors | {"blocks.1.ffn.0.weight_scale": ("F32", shape)})


def test_two_tensors_for_one_are_refused() -> None:
    tensors, _ = quantized(small("wan2.1_t2v_1.3B"), "scaled_fp8")
    assert "two tensors" in refused(tensors | {"blocks.1.ffn.0.weight_scale": ("F32", ())})
    names = {f"model.{name}": of for name, of in tensors.items()} | {"head.modulation": ("BF16", (1, 2, 1536))}
    assert "two tensors" in refused(names)


def test_a_forged_number_of_layers_is_refused() -> None:
    assert "layers" in refused(in_dtype(small("wan2.1_t2v_1.3B") | {"blocks.999999999.modulation": (1, 6, 1536)}))


def test_other_networks_are_said_to_be_unknown() -> None:
    assert "none of the networks" in refused(in_dtype({"model.layers.0.mlp.up_proj.weight": (8, 8)}))
    assert "none of the networks" in refused({})


def forged() -> st.SearchStrategy[Header]:
    """Headers of real networks in which names are gone, changed or added, and shapes and dtypes are others."""
    names = st.sampled_from([*FAMILIES])
    sizes = st.lists(st.integers(0, 1 << 20), max_size=6).map(tuple)
    tensors = st.builds(TensorInfo, st.sampled_from([*BITS, "Q4_K", "IQ1_S", "TYPE_77"]), sizes, st.integers(0, 99))
    words = st.sampled_from(["blocks", "0", "999", "weight", "attn1", "q", "scale_weight", "comfy_quant", "_data", ""])
    added = st.dictionaries(st.lists(words, max_size=5).map(".".join), tensors, max_size=4)
    return st.tuples(names, st.randoms(use_true_random=False), tensors, added).map(_forge)


def _forge(parts: Any) -> Header:  # noqa: ANN401 - as drawn above
    manifest, random, tensor, added = parts
    header = header_of(in_dtype(small(manifest)))
    for name in random.sample(sorted(header), k=3):
        match random.randrange(4):
            case 0:
                del header[name]
            case 1:
                header[name] = tensor
            case 2:
                header[name + random.choice(["", ".x", "_scale", "_scale_2"])] = header.pop(name)
            case 3:
                header[name] = TensorInfo(tensor.dtype, header[name].shape, header[name].byte_count)
    return header | added


@given(forged(), st.binary(max_size=40), st.text(max_size=40))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_forged_headers_are_refused_or_accounted_for(header: Header, content: bytes, metadata: str) -> None:
    """Of what is not refused, every tensor is a parameter's, beside one, not needed, or reported."""
    with contextlib.suppress(EngineError):
        declared = {"_quantization_metadata": metadata} if metadata else {}
        assert_accounted_for(identify(header, declared, SILENT, lambda name: content), header)


def assert_accounted_for(found: Description, header: Header) -> None:
    used: list[str] = []
    for source in found.sources.values():
        for piece in source.pieces or (source,):
            used += [piece.name, *piece.parts.values()]
        assert math.prod(source.shape) == sum(math.prod(piece.shape) for piece in source.pieces or (source,))
    assert len(used) == len(set(used))
    assert set(used) <= set(header)
    left = set(header) - set(used) - set(found.unexpected)
    assert not found.sources or all(
        NOT_NEEDED.fullmatch(name.removeprefix("wav2vec2.")) or name.endswith(BESIDE) for name in left
    )
    assert not set(found.missing) & set(found.sources)


@pytest.mark.parametrize("form", FORMS)
def test_every_tensor_of_a_quantised_file_is_accounted_for(form: str) -> None:
    tensors, metadata = quantized(small("wan2.1_flf2v_14B"), form)
    assert_accounted_for(identified(tensors, metadata), header_of(tensors))
