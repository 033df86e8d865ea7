"""LoRA files beside a network: what is used, skipped, left over or refused, from headers alone."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import EngineError, ErrorCode
from engine.weights.checkpoint import Checkpoint
from engine.weights.containers import open_checkpoint
from engine.weights.header import TensorInfo
from engine.weights.lora.deltas import change_of
from engine.weights.lora.file import LoraFile, Skip, parse_lora
from engine.weights.lora.names import ENDINGS, PREFIXES
from engine.weights.lora.shapes import KINDS, Kind
from tests.engine.lora_cases import FILE, checkpoint_of, random, tensors_of

SHAPES: dict[str, tuple[int, ...]] = {
    "patch_embedding.weight": (8, 4, 1, 2, 2),
    "patch_embedding.bias": (8,),
    "blocks.0.modulation": (1, 6, 8),
    "blocks.0.norm3.weight": (8,),
    "blocks.0.norm3.bias": (8,),
    "blocks.0.ffn.0.weight": (16, 8),
    "blocks.0.ffn.0.bias": (16,),
    "blocks.0.cross_attn.k.weight": (8, 8),
    "blocks.0.cross_attn.k.bias": (8,),
    "blocks.0.cross_attn.norm_k.weight": (8,),
    "head.head.weight": (16, 8),
    "head.modulation": (1, 2, 8),
}
IMAGE_SHAPES = SHAPES | {"blocks.0.cross_attn.k_img.weight": (8, 8), "img_emb.proj.1.weight": (8, 5)}
LAYER = "blocks.0.ffn.0"
LORA = tensors_of("lora", LAYER, (16, 8))


def parsed(tensors: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> LoraFile:
    return parse_lora(checkpoint_of(tensors), shapes)


def reason(tensors: dict[str, Tensor]) -> str:
    with pytest.raises(EngineError) as caught:
        parsed(tensors)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(FILE)
    return str(caught.value.details["reason"])


def test_a_step_distil_file_of_lightx2v() -> None:
    """Low-rank pairs without alpha, differences of weights, norms, biases and modulations, in one file."""
    tensors = {f"diffusion_model.{name}": tensor for name, tensor in LORA.items() if "alpha" not in name}
    diffs = {
        "patch_embedding.diff": (8, 4, 1, 2, 2), "patch_embedding.diff_b": (8,), "blocks.0.diff_m": (1, 6, 8),
        "blocks.0.norm3.diff": (8,), "blocks.0.norm3.diff_b": (8,), "blocks.0.ffn.0.diff_b": (16,),
        "blocks.0.cross_attn.norm_k.diff": (8,), "head.head.diff": (16, 8), "head.diff_m": (1, 2, 8),
    }  # fmt: skip
    lora = parsed(tensors | {f"diffusion_model.{name}": random(*shape) for name, shape in diffs.items()})
    assert set(lora.sources) == set(SHAPES) - {"blocks.0.cross_attn.k.weight", "blocks.0.cross_attn.k.bias"}
    assert (lora.skipped, lora.unmatched) == ({}, [])


def test_a_real_file(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file(LORA, file)
    lora = parse_lora(open_checkpoint((file,)), SHAPES)
    from_memory = parsed(LORA)
    name = f"{LAYER}.weight"
    base = torch.zeros(16, 8)
    assert torch.equal(change_of(lora.delta(name), base), change_of(from_memory.delta(name), base))


def test_keys_of_an_image_model_are_skipped_by_a_text_model() -> None:
    layers = {"blocks.0.cross_attn.k_img": (8, 8), "img_emb.proj.1": (8, 5)}
    image = {k: t for layer, shape in layers.items() for k, t in tensors_of("lora", layer, shape).items()}
    underscored = {
        f"lora_unet_{k.replace('.', '_', k.count('.') - 2)}": t for k, t in image.items() if "alpha" not in k
    }
    for stored in (image, underscored):
        lora = parsed(LORA | stored)
        assert lora.skipped == dict.fromkeys(stored, Skip.IMAGE_BRANCH)
        assert set(lora.sources) == {f"{LAYER}.weight"}
        assert not lora.unmatched
        assert set(parsed(LORA | stored, IMAGE_SHAPES).sources) == {f"{LAYER}.weight", *(f"{n}.weight" for n in layers)}


def test_a_patch_embedding_of_other_channels_is_skipped() -> None:
    other = {"patch_embedding.diff": random(8, 9, 1, 2, 2), "patch_embedding.diff_b": random(8)}
    lora = parsed(LORA | other)
    assert lora.skipped == dict.fromkeys(other, Skip.PATCH_EMBEDDING)
    assert set(lora.sources) == {f"{LAYER}.weight"}
    low_rank = tensors_of("lora", "patch_embedding", (8, 9, 1, 2, 2))
    assert parsed(LORA | low_rank).skipped == dict.fromkeys(low_rank, Skip.PATCH_EMBEDDING)


def test_a_patch_embedding_of_another_width_is_another_model() -> None:
    assert "patch_embedding.weight" in reason(LORA | {"patch_embedding.diff": random(12, 4, 1, 2, 2)})


def test_another_model_is_refused_with_its_shapes() -> None:
    found = reason(tensors_of("lora", LAYER, (20, 10)) | tensors_of("lora", "head.head", (16, 10)))
    assert found == (
        "it is for another model: blocks.0.ffn.0.weight is changed as 20x10 where this model has [16, 8], "
        "head.head.weight is changed as 16x10 where this model has [16, 8]"
    )


def test_many_mismatches_are_counted() -> None:
    shapes = {f"blocks.{i}.ffn.0.weight": (16, 8) for i in range(9)}
    tensors = {k: t for i in range(9) for k, t in tensors_of("lora", f"blocks.{i}.ffn.0", (8, 8)).items()}
    with pytest.raises(EngineError) as caught:
        parsed(tensors, shapes)
    assert str(caught.value.details["reason"]).endswith(" and 4 more")


def test_what_is_no_part_of_a_change_is_listed() -> None:
    strangers = {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": random(4, 2),
        f"{LAYER}.weight": random(16, 8),
        "blocks.7.ffn.0.diff": random(16, 8),
        "blocks.0.norm1.diff": random(8),
        "head.head.alpha": torch.tensor(1.0),
        "": random(1),
        ".alpha": random(1),
    }
    lora = parsed(LORA | strangers)
    assert set(lora.unmatched) == set(strangers)
    assert set(lora.sources) == {f"{LAYER}.weight"}


def test_alpha_and_magnitude_beside_a_difference_are_listed() -> None:
    beside = {"head.head.alpha": torch.tensor(1.0), "head.head.dora_scale": random(16)}
    assert set(parsed({"head.head.diff": random(16, 8)} | beside).unmatched) == set(beside)


@pytest.mark.parametrize("tensors", [{}, {"x": random(1)}, {f"{LAYER}.alpha": torch.tensor(1.0)}])
def test_nothing_for_this_model(tensors: dict[str, Tensor]) -> None:
    assert reason(tensors) == "it is no LoRA for this model: nothing in it changes one of its layers"


UP, DOWN, ALPHA = (f"{LAYER}.{part}" for part in ("lora_up.weight", "lora_down.weight", "alpha"))
HADA = tensors_of("loha", LAYER, (16, 8))
KRON = tensors_of("lokr_ab", LAYER, (16, 8))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({DOWN: random(4, 8)}, "its parts do not fit together: down [4, 8], up [16, 3]"),
        ({DOWN: None}, "without its down"),
        ({UP: None}, "without its up"),
        ({DOWN: random(0, 8), UP: random(16, 0)}, "down is empty"),
        ({DOWN: random(3)}, "down [3] is no matrix"),
        ({UP: torch.tensor(1.0)}, "up [] is no matrix"),
        ({ALPHA: random(2)}, "alpha [2] is not one number"),
        ({ALPHA: random(0)}, "alpha [0] is not one number"),
        ({UP: torch.zeros(16, 3, dtype=torch.int8)}, "up is stored as I8"),
        ({f"{LAYER}.lora_mid.weight": random(3, 2)}, "do not fit together"),
        ({f"{LAYER}.lora_mid.weight": random(3)}, "mid [3] is no matrix"),
        ({f"{LAYER}.dora_scale": random(5)}, "dora_scale [5] is for no weight [16, 8]"),
        ({f"{LAYER}.dora_scale": torch.tensor(1.0)}, "dora_scale [] is for no weight [16, 8]"),
        ({f"{LAYER}.diff": random(16, 8)}, "two changes at once, low_rank and dense"),
        ({f"pipe.dit.{LAYER}.lora_A.default.weight": random(3, 8)}, "are the down of blocks.0.ffn.0.weight"),
        (HADA, "two changes at once"),
        ({UP: None, DOWN: None, **HADA, f"{LAYER}.hada_w2_b": None}, "without its hada_w2_b"),
        ({UP: None, DOWN: None, **HADA, f"{LAYER}.hada_w2_b": random(3, 1)}, "do not fit together"),
        ({UP: None, DOWN: None, **HADA, f"{LAYER}.hada_t1": random(3, 3, 1)}, "one of hada_t1 and hada_t2"),
        ({UP: None, DOWN: None, **KRON, f"{LAYER}.lokr_w1_a": None}, "without its lokr_w1_a"),
        ({UP: None, DOWN: None, **KRON, f"{LAYER}.lokr_w1": random(2, 4)}, "both lokr_w1 and lokr_w1_a"),
        ({UP: None, DOWN: None, **KRON, f"{LAYER}.lokr_w1_b": random(2, 4)}, "do not fit together"),
    ],
)
def test_broken_files(changes: dict[str, Tensor | None], expected: str) -> None:
    tensors = {name: tensor for name, tensor in (LORA | changes).items() if tensor is not None}
    assert expected in reason(tensors)


def test_a_shape_that_only_the_header_claims() -> None:
    header = {name: TensorInfo("F32", (2**40, 3) if name == UP else tuple(t.shape), 0) for name, t in LORA.items()}
    with pytest.raises(EngineError) as caught:
        parse_lora(Checkpoint((FILE,), header, {}, LORA.__getitem__), SHAPES)
    assert "another model" in str(caught.value.details["reason"])
    header[UP], header[DOWN] = TensorInfo("F32", (16, 2**40), 0), TensorInfo("F32", (2**40, 8), 0)
    lora = parse_lora(Checkpoint((FILE,), header, {}, LORA.__getitem__), SHAPES)
    with pytest.raises(EngineError, match="not as its header says"):
        lora.delta(f"{LAYER}.weight")


LAYERS = sorted({path for name in IMAGE_SHAPES for path in (name, name.rpartition(".")[0])})
NAMES = st.one_of(
    st.text(max_size=20),
    st.builds(
        lambda prefix, layer, ending, underscored: (
            prefix + (layer.replace(".", "_") if underscored else layer) + ending
        ),
        st.sampled_from(["", *PREFIXES]),
        st.sampled_from(LAYERS),
        st.sampled_from([ending for ending, _, _ in ENDINGS] + [".weight", ""]),
        st.booleans(),
    ),
)
SIZES = st.sampled_from([0, 1, 2, 3, 8, 16, 2**62])
INFOS = st.builds(
    TensorInfo,
    st.sampled_from(["F32", "BF16", "F8_E4M3", "I8", "Q4_K", ""]),
    st.lists(SIZES, max_size=5).map(tuple),
    st.just(0),
)


@settings(max_examples=600, deadline=None)
@given(st.dictionaries(NAMES, INFOS, max_size=5))
def test_any_header_is_understood_or_refused(header: dict[str, TensorInfo]) -> None:
    """Never another failure, nothing counted twice, nothing lost, and no value read."""

    def read(name: str) -> Tensor:
        raise AssertionError(name)

    try:
        lora = parse_lora(Checkpoint((FILE,), header, {}, read), SHAPES)
    except EngineError:
        return
    used = [name for source in lora.sources.values() for name in source.parts.values()]
    assert sorted([*used, *lora.skipped, *lora.unmatched]) == sorted(header)
    assert set(lora.sources) <= set(SHAPES)


SMALL = st.lists(st.sampled_from([1, 2]), max_size=4).map(tuple)


@settings(max_examples=500, deadline=None)
@given(
    st.data(),
    st.sampled_from(list(Kind)),
    st.sampled_from([(), (2,), (1, 2), (2, 2), (4, 4), (2, 2, 1, 1, 2), (1, 2, 2)]),
)
def test_what_is_accepted_can_be_computed(data: st.DataObject, kind: Kind, shape: tuple[int, ...]) -> None:
    """Parts whose shapes pass the checks make a change of the parameter's shape, whatever they are."""
    endings = [ending for ending, part, of in ENDINGS if of is None and part in KINDS[kind]]
    chosen = st.dictionaries(st.sampled_from(endings), SMALL, min_size=1)
    beside = st.dictionaries(st.sampled_from([".alpha", ".dora_scale"]), SMALL)
    stored = data.draw(chosen) | data.draw(beside)
    try:
        lora = parsed({f"layer{ending}": random(*sizes) for ending, sizes in stored.items()}, {"layer.weight": shape})
    except EngineError:
        return
    assert change_of(lora.delta("layer.weight"), torch.ones(shape)).shape == shape
