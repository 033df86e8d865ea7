"""Every real checkpoint, under every name that people have it, maps onto its network completely."""

import math
from pathlib import Path

import pytest

from engine.weights.families import Role
from engine.weights.identify import NOT_NEEDED
from engine.weights.names import PREFIXES, Layout
from engine.weights.source import WeightSource
from tests.engine.identifying import identified, is_complete, small
from tests.engine.manifests import FAMILIES, RULES, TRANSFORMERS, Tensors, by_others, in_dtype, shapes

CLIP_TEXT = {"log_scale": (), "textual.token_embedding.weight": (250002, 1024), "textual.norm.weight": (1024,)}


@pytest.mark.parametrize("manifest", FAMILIES)
def test_every_tensor_of_every_checkpoint_finds_its_parameter(manifest: str) -> None:
    tensors = shapes(manifest)
    found = identified(in_dtype(tensors))
    assert found.family.name == FAMILIES[manifest]
    assert is_complete(found)
    needed = {
        name: shape for name, shape in tensors.items() if not NOT_NEEDED.fullmatch(name.removeprefix("wav2vec2."))
    }
    assert {source.name: source.shape for source in found.sources.values()} == needed
    assert found.parameters == sum(map(math.prod, needed.values()))
    assert found.bytes_on_disk == 2 * sum(map(math.prod, tensors.values()))


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("manifest", TRANSFORMERS)
def test_prefixes_of_programs_are_stripped(manifest: str, prefix: str) -> None:
    tensors = shapes(manifest)
    found = identified(in_dtype({prefix + name: shape for name, shape in tensors.items()}))
    assert (found.family.name, found.layout, found.prefix) == (FAMILIES[manifest], Layout.PREFIXED, prefix)
    assert is_complete(found)
    assert {name: source.name for name, source in found.sources.items()} == {name: prefix + name for name in tensors}


@pytest.mark.parametrize("manifest", RULES)
def test_names_of_diffusers_and_transformers(manifest: str) -> None:
    official = by_others(manifest)
    tensors = shapes(manifest)
    found = identified(in_dtype({theirs: tensors[name] for theirs, name in official.items()}))
    assert found.family.name == FAMILIES[manifest]
    assert found.layout is (Layout.TRANSFORMERS if "umt5" in manifest else Layout.DIFFUSERS)
    assert is_complete(found)
    assert {source.name: name for name, source in found.sources.items()} == official


def test_projections_stored_apart_become_one(clip_by_transformers: Tensors) -> None:
    found = identified(clip_by_transformers)
    assert (found.family.name, found.layout) == ("clip_vit_h", Layout.TRANSFORMERS)
    assert is_complete(found)
    official = shapes("clip_vit_h_visual")
    del official["visual.head"]  # stored turned round, and not needed
    assert {name: source.shape for name, source in found.sources.items()} == official
    fused = found.sources["visual.transformer.30.attn.to_qkv.bias"]
    stem = "vision_model.encoder.layers.30.self_attn"
    assert [piece.name for piece in fused.pieces] == [f"{stem}.{letter}_proj.bias" for letter in "qkv"]
    assert [piece.shape for piece in fused.pieces] == [(1280,)] * 3
    assert found.sources["visual.cls_embedding"] == WeightSource(
        "vision_model.embeddings.class_embedding", (1, 1, 1280)
    )


@pytest.fixture
def clip_by_transformers() -> Tensors:
    """ComfyUI's `clip_vision_h`, which has transformers' names."""
    tensors: Tensors = {"visual_projection.weight": ("F16", (1024, 1280))}
    for name, shape in shapes("clip_vit_h_visual").items():
        if "to_qkv" not in name and name != "visual.head":
            tensors[_clip_name(name)] = ("F16", tuple(size for size in shape if size != 1))
    for layer in range(32):
        for letter in "qkv":
            stem = f"vision_model.encoder.layers.{layer}.self_attn.{letter}_proj"
            tensors |= {f"{stem}.weight": ("F16", (1280, 1280)), f"{stem}.bias": ("F16", (1280,))}
    return tensors


def _clip_name(name: str) -> str:
    pairs = {
        "visual.cls_embedding": "vision_model.embeddings.class_embedding",
        "visual.pos_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.patch_embedding": "vision_model.embeddings.patch_embedding",
        "visual.pre_norm": "vision_model.pre_layrnorm",
        "visual.post_norm": "vision_model.post_layernorm", "visual.transformer": "vision_model.encoder.layers",
        "norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj", "mlp.0": "mlp.fc1",
        "mlp.2": "mlp.fc2",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        name = name.replace(ours, theirs)
    return name


def test_the_other_half_of_clip_is_not_needed() -> None:
    found = identified(in_dtype(shapes("clip_vit_h_visual") | CLIP_TEXT, "F16"))
    assert is_complete(found)
    assert not set(CLIP_TEXT) & set(found.sources)


def test_clip_may_lack_what_comes_after_its_last_layer_but_one() -> None:
    cut = {
        name: of
        for name, of in in_dtype(shapes("clip_vit_h_visual")).items()
        if "post_norm" not in name and name != "visual.head"
    }
    assert is_complete(identified(cut))


def test_gguf_names_of_umt5() -> None:
    tensors = {
        renamed_gguf(stored): ("F16", shapes("umt5_xxl_encoder_official")[name])
        for stored, name in by_others("umt5_xxl_encoder_official").items()
    }
    found = identified(tensors)
    assert (found.family.name, found.layout) == ("umt5_xxl", Layout.GGUF)
    assert is_complete(found)


def renamed_gguf(name: str) -> str:
    pairs = {
        "shared.": "token_embd.", "encoder.final_layer_norm.": "enc.output_norm.", "encoder.block.": "enc.blk.",
        ".layer.0.SelfAttention.relative_attention_bias.": ".attn_rel_b.", ".layer.0.SelfAttention.": ".attn_",
        ".layer.0.layer_norm.": ".attn_norm.", ".layer.1.DenseReluDense.wi_0.": ".ffn_gate.",
        ".layer.1.DenseReluDense.wi_1.": ".ffn_up.", ".layer.1.DenseReluDense.wo.": ".ffn_down.",
        ".layer.1.layer_norm.": ".ffn_norm.",
    }  # fmt: skip
    for theirs, short in pairs.items():
        name = name.replace(theirs, short)
    return name


@pytest.mark.parametrize(
    ("path", "family", "expert"),
    [
        ("wan2.2_t2v_high_noise_14B_fp8_scaled.safetensors", "wan2.2_t2v_A14B", "high_noise"),
        ("Wan2_2-T2V-A14B-LOW_fp8_e4m3fn_scaled_KJ.safetensors", "wan2.2_t2v_A14B", "low_noise"),
        ("Wan2.2-T2V-A14B-HighNoise-Q4_K_M.gguf", "wan2.2_t2v_A14B", "high_noise"),
        ("Wan2.2-T2V-A14B/low_noise_model/diffusion_pytorch_model.safetensors", "wan2.2_t2v_A14B", "low_noise"),
        ("Wan2.2-T2V-A14B-Diffusers/transformer_2/model.safetensors", "wan2.2_t2v_A14B", "low_noise"),
        ("Wan2.2-T2V-A14B/model.safetensors", "wan2.2_t2v_A14B", None),
        ("Wan2_1-T2V-14B_fp8_e4m3fn.safetensors", "wan2.1_t2v_14B", None),
        ("wan22/Wan2.1-T2V-14B/diffusion_pytorch_model.safetensors", "wan2.1_t2v_14B", None),
    ],
)  # fmt: skip
def test_names_tell_generation_and_expert(path: str, family: str, expert: str | None) -> None:
    found = identified(in_dtype(small("wan2.1_t2v_14B", 40)), path=Path(path))
    assert (found.family.name, found.family.expert, found.family.alternatives) == (family, expert, ())


def test_a_name_that_says_nothing_leaves_the_generation_open() -> None:
    found = identified(in_dtype(shapes("wan2.1_t2v_14B")))
    assert (found.family.name, found.family.alternatives) == ("wan2.1_t2v_14B", ("wan2.2_t2v_A14B",))


def test_the_first_of_two_diffusers_experts_is_told_by_the_second(tmp_path: Path) -> None:
    for folder in ("transformer", "transformer_2"):
        (tmp_path / folder).mkdir()
    found = identified(in_dtype(shapes("wan2.2_i2v_A14B")), path=tmp_path / "transformer" / "model.safetensors")
    assert (found.family.name, found.family.expert) == ("wan2.2_i2v_A14B", "high_noise")


def test_a_pruned_decoder_is_a_family_of_its_own() -> None:
    pruned = {
        name: tuple(size // 4 if size >= 96 and name.startswith("decoder.") else size for size in shape)
        for name, shape in shapes("wan2.1_vae").items()
    }
    found = identified(in_dtype(pruned))
    assert (found.family.name, found.role) == ("wan2.1_vae_pruned", Role.VAE)
    assert is_complete(found)
    assert found.sources["decoder.conv1.bias"].shape == (96,)


def test_infinitetalk_merged_into_its_base() -> None:
    found = identified(in_dtype(shapes("wan2.1_i2v_14B") | shapes("infinitetalk_single")))
    assert (found.family.name, found.role) == ("infinitetalk_i2v_14B", Role.AUDIO)
    assert is_complete(found)


def test_missing_and_unexpected_tensors_are_listed() -> None:
    tensors = shapes("wan2.1_t2v_1.3B") | {"blocks.0.extra.weight": (1,), "blocks.0.extra.weight_scale": ()}
    for name in ("head.modulation", "blocks.29.ffn.2.bias"):
        del tensors[name]
    found = identified(in_dtype(tensors))
    assert found.missing == ("head.modulation", "blocks.29.ffn.2.bias")
    assert found.unexpected == ("blocks.0.extra.weight",)


def test_a_scale_without_its_weight_is_unexpected() -> None:
    tensors = in_dtype(shapes("wan2.1_t2v_1.3B")) | {"blocks.0.self_attn.q.scale_weight": ("F32", ())}
    del tensors["blocks.0.self_attn.q.weight"]
    found = identified(tensors)
    assert found.missing == ("blocks.0.self_attn.q.weight",)
    assert found.unexpected == ("blocks.0.self_attn.q.scale_weight",)
