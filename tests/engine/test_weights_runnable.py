"""Which models run is told by what their tensors are, for every published one."""

from pathlib import Path

import pytest

from engine.weights.families import Role
from engine.weights.identify import Description, identify
from engine.weights.runnable import RunRefusal, why_not_runnable
from tests.engine.manifests import FAMILIES, header_of, in_dtype, shapes

REFUSALS = {
    "infinitetalk_single": RunRefusal.NEEDS_SOUND,
    "wav2vec2_chinese_base": RunRefusal.NEEDS_SOUND,
}


def described(manifest: str, name: str = "model.safetensors", without: str = "") -> Description:
    tensors = {each: shape for each, shape in shapes(manifest).items() if each != without}
    return identify(header_of(in_dtype(tensors)), {}, Path("/models") / name, lambda _: b"")


@pytest.mark.parametrize("manifest", FAMILIES)
def test_every_published_network(manifest: str) -> None:
    assert why_not_runnable(described(manifest)) is REFUSALS.get(manifest)


@pytest.mark.parametrize(
    ("manifest", "name"), [("wan2.1_t2v_1.3B", "blocks.7.norm3.weight"), ("wan2.1_vae", "decoder.head.2.bias")]
)
def test_a_file_that_is_not_whole(manifest: str, name: str) -> None:
    assert name in shapes(manifest)
    assert why_not_runnable(described(manifest, without=name)) is RunRefusal.LACKS_PARAMETERS


def test_what_is_no_network_has_nothing_against_it() -> None:
    lora: dict[str, tuple[int, ...]] = {
        "blocks.0.self_attn.q.lora_A.weight": (8, 1536),
        "blocks.0.self_attn.q.lora_B.weight": (1536, 8),
    }
    found = identify(header_of(in_dtype(lora)), {}, Path("/models/lora.safetensors"), lambda _: b"")
    assert (found.role, why_not_runnable(found)) == (Role.LORA, None)
