"""Every preset can be used as it stands, and the right one is found."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.card_presets import (
    GIB,
    CardPreset,
    card_preset,
    card_presets,
    distilled_recipes,
    resident_blocks,
    settings_of,
)
from engine.commands import EMBEDDED_MODEL, BackendState
from engine.generation import AttentionBackend, Solver
from engine.model_choice import WeightForm
from engine.models.transformer import TransformerConfig
from engine.pictures.road import PictureRoad, PictureUse, picture_use
from engine.presets import ModelDefaults, defaults_for, defaults_of_network, read_presets
from engine.sampling.validation import check_frames, check_size, sampled_size
from engine.weights.detect import find_model
from engine.weights.inspect import inspect_files
from engine.weights.sizes import transformer_sizes
from tests.engine.manifests import in_dtype, shapes
from tests.engine.sparse_files import write_sparse

WAN_1_3B = {"dim": 1536, "num_layers": 30, "in_dim": 16}
WAN_14B = {"dim": 5120, "num_layers": 40, "in_dim": 16}
MINI = {"dim": read_presets()["mini"]["dim"], "num_layers": read_presets()["mini"]["layers"], "patch_size": [1, 4, 4]}


def test_models_are_told_apart() -> None:
    assert [defaults_for(config).name for config in (WAN_1_3B, WAN_14B, MINI, {"dim": 64, "num_layers": 2})] == [
        "wan2.1_t2v_1.3B", "wan2.1_t2v_14B", "mini", "other",
    ]  # fmt: skip


@pytest.mark.parametrize("config", [WAN_1_3B, WAN_14B, MINI, {}])
def test_defaults_are_valid(config: dict[str, int]) -> None:
    defaults = defaults_for(config)
    assert defaults.size_multiple == (32 if config is MINI else 16)
    check_size(defaults.width, defaults.height, defaults.size_multiple)
    check_frames(defaults.frames, 4)
    assert (defaults.width, defaults.height) in defaults.sizes
    for width, height in defaults.sizes:
        check_size(width, height, defaults.size_multiple)


def test_official_numbers() -> None:
    presets = read_presets()
    for name in ("wan2.1_t2v_1.3B", "wan2.1_t2v_14B"):
        entry = presets[name]
        assert (entry["steps"], entry["shift"], entry["guidance"], entry["frames"], entry["fps"]) == (50, 5, 5, 81, 16)


def test_presets_need_no_torch() -> None:
    code = "import sys, engine.card_presets, engine.sampling.validation, engine.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_of_two_experts_have_what_tells_them_apart() -> None:
    """Numbers of FORMATS e; all other models have none."""
    found = {name: (entry.get("boundary"), entry.get("guidance_low")) for name, entry in read_presets().items()}
    assert found.pop("wan2.2_t2v_A14B") == (0.875, 3.0)
    assert found.pop("wan2.2_i2v_A14B") == (0.9, 3.5)
    assert set(found.values()) == {(None, None)}
    assert (defaults_for(WAN_14B).boundary, defaults_for(WAN_14B).guidance_low) == (None, None)


def test_cards_and_recipes_are_no_models() -> None:
    assert all({"width", "steps", "sizes"} <= entry.keys() for entry in read_presets().values())


@pytest.mark.parametrize(
    ("size_bytes", "name"),
    [
        (None, "none"),
        (2 * GIB, "below_8_gb"),
        (6 * GIB, "below_8_gb"),
        (8188 << 20, "8_to_12_gb"),  # what drivers tell of cards sold with 8, 11, 12 and 16 GB
        (11264 << 20, "8_to_12_gb"),
        (12282 << 20, "12_to_16_gb"),
        (16376 << 20, "from_16_gb"),
        (80 * GIB, "from_16_gb"),
    ],
)
def test_every_card_has_its_preset(size_bytes: int | None, name: str) -> None:
    assert card_preset(size_bytes).name == name


def test_the_three_rows_that_were_asked_for() -> None:
    small, middle, large = (card_preset(size * GIB) for size in (8, 12, 16))
    backend = AttentionBackend
    assert [preset.attention[0] for preset in (small, middle, large)] == [
        backend.SAGEATTN_3_FP4, backend.SAGEATTN_3_FP8, backend.SAGEATTN_3,
    ]  # fmt: skip
    assert large.attention[1] is backend.FLASH_ATTN
    assert [preset.weights.value for preset in (small, middle, large)] == ["fp4_scaled", "fp8_scaled", "fp8_scaled"]
    assert [preset.swapped for preset in (small, middle, large)] == [(16, 20), (8, 12), (0, 0)]
    assert [preset.size for preset in (small, middle, large)] == [(1280, 720), (1280, 720), (1920, 1080)]
    assert [preset.frames for preset in (small, middle, large)] == [(61, 81), (81, 121), (121, 241)]
    assert [(preset.from_gb, preset.below_gb) for preset in (small, middle, large)] == [(8, 12), (12, 16), (16, None)]


@pytest.mark.parametrize("preset", card_presets(), ids=lambda preset: preset.name)
def test_every_preset_can_be_used_as_it_stands(preset: CardPreset) -> None:
    """SDPA is always there, frames are possible, and of a video in between some blocks in between are swapped."""
    assert preset.attention[-1] is AttentionBackend.SDPA
    assert len(set(preset.attention)) == len(preset.attention)
    for defaults in (defaults_for(WAN_1_3B), defaults_for(WAN_14B), defaults_for(MINI)):
        used = settings_of(preset, (), defaults, blocks=40)
        check_frames(used.frames, 4)
        sampled_size(used.width, used.height, defaults.size_multiple)
        assert used.attention is AttentionBackend.SDPA
        assert used.weights is WeightForm.STORED, "no other form is to be had"
    for frames in preset.frames or ():
        check_frames(frames, 4)


def test_residents_are_a_share_of_the_blocks_that_there_are() -> None:
    small, large = card_preset(8 * GIB), card_preset(24 * GIB)
    assert [resident_blocks(small, 40, frames) for frames in (17, 61, 71, 81, 121)] == [24, 24, 22, 20, 20]
    assert [resident_blocks(small, 30, frames) for frames in (61, 81)] == [18, 15]
    assert resident_blocks(large, 40, 241) == 40
    assert resident_blocks(card_preset(6 * GIB), 40, 33) == 0
    assert resident_blocks(card_preset(None), 6, 33) == 6
    assert settings_of(small, (), defaults_for(WAN_14B), blocks=None).resident_blocks is None


def state(backend: AttentionBackend, reason: str = "") -> BackendState:
    return BackendState(backend, is_available=not reason, reason=reason)


def test_what_cannot_be_had_is_told_and_the_best_of_the_rest_is_taken() -> None:
    backend, defaults = AttentionBackend, defaults_for(WAN_14B)
    states = (
        state(backend.SDPA),
        state(backend.FLASH_ATTN),
        state(backend.SAGEATTN, "package_missing"),
        state(backend.SAGEATTN_3, "older_card"),
        state(backend.SAGEATTN_3_FP8, "not_offered"),
    )
    used = settings_of(card_preset(12 * GIB), states, defaults, blocks=40)
    assert used.attention is backend.FLASH_ATTN
    assert [(each.backend, each.reason) for each in used.passed_over] == [
        (backend.SAGEATTN_3_FP8, "not_offered"),
        (backend.SAGEATTN, "package_missing"),
    ]
    best = settings_of(card_preset(16 * GIB), (*states, state(backend.SAGEATTN_3)), defaults, blocks=40)
    assert (best.attention, best.passed_over) == (backend.SAGEATTN_3, ())
    unheard_of = settings_of(card_preset(8 * GIB), states, defaults, blocks=40).passed_over[0]
    assert (unheard_of.backend, unheard_of.is_available) == (backend.SAGEATTN_3_FP4, False)


def test_a_size_is_proposed_to_models_that_can_make_it() -> None:
    forms = (WeightForm.STORED, WeightForm.FP4_SCALED)

    def clip(size_gb: int, defaults: ModelDefaults) -> tuple[int, int, int]:
        used = settings_of(card_preset(size_gb * GIB), (), defaults, blocks=None, forms=forms)
        return used.width, used.height, used.frames

    large, small, mini = defaults_for(WAN_14B), defaults_for(WAN_1_3B), defaults_for(MINI)
    assert [clip(size, large) for size in (6, 8, 12, 16)] == [
        (832, 480, 61), (1280, 720, 81), (1280, 720, 81), (1920, 1080, 121),
    ]  # fmt: skip
    assert [clip(size, small) for size in (6, 8, 16)] == [(832, 480, 61), (832, 480, 81), (832, 480, 81)]
    assert clip(8, mini) == (256, 256, 33)
    assert settings_of(card_preset(8 * GIB), (), large, blocks=40, forms=forms).weights is WeightForm.FP4_SCALED
    assert settings_of(card_preset(12 * GIB), (), large, blocks=40, forms=forms).weights is WeightForm.STORED


def test_recipes_go_down_from_pure_noise() -> None:
    recipes = {recipe.name: recipe for recipe in distilled_recipes()}
    four, eight, causvid = recipes["lightx2v_4"], recipes["lightx2v_8"], recipes["causvid"]
    assert (four.times, four.shift, four.guidance, four.solver) == ((1000, 750, 500, 250), 5, 1, Solver.EULER)
    assert (len(eight.times), len(causvid.times), causvid.shift) == (8, 9, 1)
    for recipe in recipes.values():
        assert recipe.times[0] == 1000
        assert list(recipe.times) == sorted(set(recipe.times), reverse=True)
        assert recipe.times[-1] > 0


@pytest.mark.parametrize(("boundary", "high_steps"), [(0.875, 2), (0.9, 2)])
def test_four_steps_of_two_experts_are_two_of_each(boundary: float, high_steps: int) -> None:
    """As the distilled LoRAs of Wan 2.2 were made for: the shifted levels cross the boundary after the second."""
    four = next(recipe for recipe in distilled_recipes() if recipe.name == "lightx2v_4")
    levels = [four.shift * t / 1000 / (1 + (four.shift - 1) * t / 1000) for t in four.times]
    assert sum(level >= boundary for level in levels) == high_steps


NONE, CHANNELS, FRAMES = PictureRoad
USES = {
    "wan2.1_t2v_1.3B": PictureUse(NONE), "wan2.1_t2v_14B": PictureUse(NONE), "wan2.2_t2v_A14B": PictureUse(NONE),
    "wan2.1_i2v_14B": PictureUse(CHANNELS, 1), "wan2.1_flf2v_14B": PictureUse(CHANNELS, 2),
    "wan2.2_i2v_A14B": PictureUse(CHANNELS), "wan2.2_ti2v_5B": PictureUse(FRAMES),
}  # fmt: skip


@pytest.mark.parametrize("name", USES)
def test_what_a_model_does_with_pictures_is_told_by_its_header_as_by_itself(name: str, tmp_path: Path) -> None:
    """The window reads headers, the engine the network it has loaded: both must say the same."""
    file = tmp_path / "model.safetensors"
    write_sparse(file, in_dtype(shapes(name)))
    model = inspect_files((file,)).model
    assert defaults_of_network(model).pictures == USES[name]
    config = TransformerConfig(**asdict(transformer_sizes(model.family.expected)))
    assert picture_use(config, config.model_type) == USES[name]


@pytest.mark.parametrize("text", ["{", "[]", '{"model_type": 3}', '{"model_type": "ti2v"}'])
def test_a_config_that_says_nothing_costs_no_model(text: str, tmp_path: Path) -> None:
    model = inspect_files(find_model(EMBEDDED_MODEL).transformer).model
    config = tmp_path / "config.json"
    config.write_text(text)
    assert defaults_of_network(model, config).name == "mini"
    expected = FRAMES if "ti2v" in text else NONE
    assert defaults_of_network(model, config).pictures.road is expected
    assert defaults_of_network(model, tmp_path / "none").pictures.road is NONE
