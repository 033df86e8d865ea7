"""What the person chose amounts to: parts that match, what is missing, and the command that follows."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PySide6.QtCore import QPersistentModelIndex

from desktop.state.found_items import FoundItems
from desktop.state.found_models import FoundFile, FoundModels, Search
from desktop.state.library import Library, Standing
from desktop.state.matching import ModelPart
from desktop.state.model_use import ModelUse, use_from, use_text
from desktop.state.prompt import PromptState
from engine.commands import EMBEDDED_MODEL, from_json, to_json
from engine.errors import EngineError, ErrorCode
from engine.model_choice import LoraUse, ModelParts, WeightForm
from engine.presets import defaults_of
from engine.weights.provenance import Expert
from tests.desktop.conftest import DEFAULTS
from tests.desktop.model_folders import (
    CLIP,
    HIGH,
    I2V_14B,
    LORA_14B,
    LORA_SMALL,
    LOW,
    T2V_14B,
    T2V_14B_FP8,
    T2V_SMALL,
    TEXT_ENCODER,
    TI2V_5B,
    VAE_21,
    VAE_22,
    WHOLE,
    feed,
    found_file,
    put,
)
from tests.engine.manifests import shapes

pytestmark = pytest.mark.usefixtures("qapp")
EVERYTHING = (
    T2V_14B, T2V_14B_FP8, T2V_SMALL, TI2V_5B, I2V_14B, HIGH, LOW, VAE_21, VAE_22, TEXT_ENCODER, CLIP,
    LORA_14B, LORA_SMALL,
)  # fmt: skip


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("comfy"), *EVERYTHING)


@pytest.fixture(scope="module")
def files(comfy: Path) -> dict[str, FoundFile]:
    return {name: found_file(comfy / name) for name in EVERYTHING}


def library_of(folder: Path, *names: str, given_model: Path = EMBEDDED_MODEL) -> Library:
    library = Library(FoundModels(), given_model, DEFAULTS)
    feed(library.found, folder, *names)
    library.found.close()
    return library


def test_the_embedded_model_is_always_there_and_needs_nothing() -> None:
    library = Library(FoundModels(), EMBEDDED_MODEL, DEFAULTS)
    assert (library.standing, library.use()) == (Standing.READY, ModelUse())
    assert (library.needs(), library.missing(), library.forms(), library.loras()) == ((), (), {}, [])
    other = Library(FoundModels(), Path("/given"), DEFAULTS)
    assert other.wholes == (Path("/given"), EMBEDDED_MODEL)
    other.choose_model(EMBEDDED_MODEL)
    assert (other.standing, other.defaults()) == (Standing.READY, defaults_of(EMBEDDED_MODEL))


@pytest.mark.parametrize(
    ("model", "parts", "standing"),
    [
        (T2V_SMALL, {"vae": VAE_21, "text_encoder": TEXT_ENCODER}, Standing.READY),
        (T2V_14B_FP8, {"vae": VAE_21, "text_encoder": TEXT_ENCODER}, Standing.READY),
        (TI2V_5B, {"vae": VAE_22, "text_encoder": TEXT_ENCODER}, Standing.READY),
        (I2V_14B, {"vae": VAE_21, "text_encoder": TEXT_ENCODER, "image_encoder": CLIP}, Standing.READY),
        (HIGH, {"low_noise": LOW, "vae": VAE_21, "text_encoder": TEXT_ENCODER}, Standing.READY),
    ],
)
def test_every_family_gets_its_parts(comfy: Path, model: str, parts: dict[str, str], standing: Standing) -> None:
    library = library_of(comfy, *EVERYTHING)
    library.choose_model(comfy / model)
    named = {name: comfy / file for name, file in parts.items()}
    assert library.use() == ModelUse(comfy / model, ModelParts(**named))
    assert (library.standing, library.missing()) == (standing, ())


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (T2V_SMALL, {"Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model"}),
        (TI2V_5B, {"Wan2.2_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model"}),
    ],
)
def test_a_file_alone_says_what_to_look_for(comfy: Path, model: str, names: set[str]) -> None:
    library = library_of(comfy, model)
    library.choose_model(comfy / model)
    assert set(library.missing()) == names
    assert library.standing is Standing.INCOMPLETE


def test_what_is_missing_is_about_the_chosen_model_only(comfy: Path) -> None:
    library = library_of(comfy, T2V_SMALL, TI2V_5B, VAE_21, TEXT_ENCODER)
    library.choose_model(comfy / T2V_SMALL)
    assert library.standing is Standing.READY
    library.choose_model(comfy / TI2V_5B)
    assert library.missing() == ("Wan2.2_VAE.pth",)


def test_the_nearest_part_is_taken_and_another_may_be(tmp_path: Path) -> None:
    for name in ("a", "b"):
        put(tmp_path / name, *WHOLE)
    library = library_of(tmp_path, *(f"{folder}/{name}" for folder in "ab" for name in WHOLE))
    library.choose_model(tmp_path / "b" / T2V_SMALL)
    assert library.part(ModelPart.VAE) == tmp_path / "b" / VAE_21
    library.choose_part(ModelPart.VAE, tmp_path / "a" / VAE_21)
    assert library.use().parts.vae == tmp_path / "a" / VAE_21
    assert library.use().parts.text_encoder == tmp_path / "b" / TEXT_ENCODER
    library.choose_part(ModelPart.VAE, None)
    assert library.part(ModelPart.VAE) == tmp_path / "b" / VAE_21


def test_a_part_that_was_chosen_and_is_gone_is_found_anew(comfy: Path) -> None:
    library = library_of(comfy, *WHOLE)
    library.change(ModelUse(comfy / T2V_SMALL, ModelParts(vae=Path("/elsewhere/vae.safetensors"))))
    assert library.use().parts.vae == comfy / VAE_21
    assert library.by_hand(ModelPart.VAE) == Path("/elsewhere/vae.safetensors"), "it may come back"


def test_a_tokenizer_is_needed_where_the_text_encoder_has_none(tmp_path: Path) -> None:
    put(tmp_path, *WHOLE)
    library = library_of(tmp_path, T2V_SMALL, VAE_21)
    search = library.found.places[0].search
    encoder = found_file(tmp_path / TEXT_ENCODER)
    bare = replace(encoder, report=replace(encoder.report, has_tokenizer=False))
    library.found.add_file(search, bare)
    library.choose_model(tmp_path / T2V_SMALL)
    assert library.missing() == ("google/umt5-xxl/spiece.model",)
    for name in ("text_encoders/tokenizer.json", "elsewhere/spiece.model", "text_encoders/spiece.model"):
        library.found.add_tokenizer(search, tmp_path / name)
    library.found.close()
    assert library.missing() == ()
    assert library.use().parts.tokenizer == tmp_path / "text_encoders" / "spiece.model"
    library.found.add_file(search, encoder)
    library.found.close()
    assert ModelPart.TOKENIZER not in library.needs()
    assert library.use().parts.tokenizer is None


def test_models_of_two_experts_are_listed_once(comfy: Path) -> None:
    library = library_of(comfy, HIGH, LOW, T2V_14B)
    assert [file.path.name for file in library.models()] == [Path(each).name for each in (T2V_14B, HIGH)]
    alone = library_of(comfy, LOW)
    assert [file.path for file in alone.models()] == [comfy / LOW]


def test_forms_are_those_that_save_memory(comfy: Path) -> None:
    library = library_of(comfy, T2V_14B, T2V_14B_FP8)
    library.choose_model(comfy / T2V_14B)
    forms = library.forms()
    layers = {name: shape for name, shape in shapes("wan2.1_t2v_14B").items() if len(shape) == 2 and "blocks." in name}
    halved = sum(rows * columns for name, (rows, columns) in layers.items() if not name.endswith("modulation"))
    assert forms[WeightForm.STORED] == found_file(comfy / T2V_14B).model.bytes_on_disk
    assert forms[WeightForm.FP8_SCALED] == pytest.approx(forms[WeightForm.STORED] - halved, rel=0.01)
    library.choose_weights(WeightForm.FP8_SCALED)
    assert library.use().weights is WeightForm.FP8_SCALED
    library.choose_model(comfy / T2V_14B_FP8)
    assert set(library.forms()) == {WeightForm.STORED, WeightForm.FP4_SCALED}
    assert library.use().weights is WeightForm.STORED, "what it is stored in already is no choice"


def test_loras_that_fit_are_offered_and_others_take_no_part(comfy: Path) -> None:
    library = library_of(comfy, *EVERYTHING)
    library.choose_model(comfy / T2V_14B)
    assert [lora.path for lora in library.loras()] == [comfy / LORA_14B]
    library.add_lora(comfy / LORA_14B)
    library.add_lora(comfy / LORA_14B)
    library.change_lora(LoraUse(comfy / LORA_14B, -0.5))
    assert library.use().loras == (LoraUse(comfy / LORA_14B, -0.5),)
    assert library.loras() == []
    library.change(replace(library.choice, loras=(*library.choice.loras, LoraUse(Path("/gone.safetensors")))))
    assert library.use().loras == (LoraUse(comfy / LORA_14B, -0.5),)
    library.choose_model(comfy / T2V_14B_FP8)
    assert library.use().loras == (LoraUse(comfy / LORA_14B, -0.5),), "it fits as well"
    library.choose_model(comfy / T2V_SMALL)
    assert comfy / LORA_14B not in [use.path for use in library.choice.loras]


def test_a_lora_for_an_expert_is_told_by_its_name(tmp_path: Path) -> None:
    put(tmp_path, HIGH, LORA_14B)
    (tmp_path / LORA_14B).rename(tmp_path / "loras" / "motion_high_noise.safetensors")
    library = library_of(tmp_path, HIGH, "loras/motion_high_noise.safetensors")
    library.choose_model(tmp_path / HIGH)
    library.add_lora(tmp_path / "loras" / "motion_high_noise.safetensors")
    assert library.choice.loras[0].expert is Expert.HIGH_NOISE


@pytest.mark.parametrize(
    ("model", "size", "frames", "fps", "shift", "multiple"),
    [
        (T2V_SMALL, (832, 480), 81, 16, 5.0, 16), (T2V_14B_FP8, (832, 480), 81, 16, 5.0, 16),
        (TI2V_5B, (1280, 704), 121, 24, 5.0, 32), (HIGH, (832, 480), 81, 16, 12.0, 16),
    ],
)  # fmt: skip
def test_settings_follow_the_family(
    comfy: Path, model: str, size: tuple[int, int], frames: int, fps: int, shift: float, multiple: int
) -> None:
    library = library_of(comfy, model)
    library.choose_model(comfy / model)
    defaults = library.defaults()
    assert defaults is not None
    assert ((defaults.width, defaults.height), defaults.frames, defaults.fps) == (size, frames, fps)
    assert (defaults.shift, defaults.size_multiple) == (shift, multiple)


def test_the_command_names_every_part(comfy: Path) -> None:
    library = library_of(comfy, *EVERYTHING)
    library.choose_model(comfy / T2V_14B)
    library.choose_weights(WeightForm.FP4_SCALED)
    library.add_lora(comfy / LORA_14B)
    prompt = PromptState(EMBEDDED_MODEL, DEFAULTS)
    prompt.change(replace(prompt.values, prompt="a red ball", negative_prompt="blue", seed=9))
    prompt.take_model(library.use(), library.defaults(), is_ready=True)
    command = prompt.command(Path("out.mp4"))
    assert (command.model, command.weights) == (comfy / T2V_14B, WeightForm.FP4_SCALED)
    assert command.parts == ModelParts(vae=comfy / VAE_21, text_encoder=comfy / TEXT_ENCODER)
    assert command.loras == (LoraUse(comfy / LORA_14B),)
    assert (command.prompt, command.negative_prompt, command.seed) == ("a red ball", "blue", 9)
    assert (command.width, command.height, command.frames, command.steps) == (832, 480, 81, 50)
    assert from_json(to_json(command)) == command
    decode = prompt.decode_command(Path("latents.pt"), Path("out.mp4"))
    assert (decode.model, decode.parts) == (command.model, command.parts)


def test_the_same_kind_of_model_leaves_the_settings_alone(comfy: Path) -> None:
    library = library_of(comfy, T2V_14B, T2V_14B_FP8)
    prompt = PromptState(EMBEDDED_MODEL, DEFAULTS)
    library.choose_model(comfy / T2V_14B)
    prompt.take_model(library.use(), library.defaults(), is_ready=True)
    prompt.change(replace(prompt.values, steps=7, width=480, height=832))
    library.choose_model(comfy / T2V_14B_FP8)
    prompt.take_model(library.use(), library.defaults(), is_ready=True)
    assert (prompt.values.steps, prompt.values.width) == (7, 480)


def test_while_it_is_searched_nothing_is_gone(comfy: Path) -> None:
    found = FoundModels()
    library = Library(found, EMBEDDED_MODEL, DEFAULTS)
    library.change(ModelUse(comfy / T2V_SMALL))
    standings = [library.standing]
    searches: list[Search] = []
    found.search_requested.connect(searches.append)
    found.add_place(comfy)
    standings.append(library.standing)
    assert library.defaults() is None
    found.add_file(searches[0], found_file(comfy / T2V_SMALL))
    standings.append(library.standing)  # its parts may come yet
    found.end_search(searches[0], "")
    standings.append(library.standing)
    found.remove_place(comfy)
    standings.append(library.standing)
    assert standings == [
        Standing.GONE, Standing.SEARCHING, Standing.SEARCHING, Standing.INCOMPLETE, Standing.GONE,
    ]  # fmt: skip
    assert searches[0].cancel.is_set()


def test_results_of_a_search_that_was_given_up_are_left_alone(comfy: Path, files: dict[str, FoundFile]) -> None:
    found = FoundModels()
    searches: list[Search] = []
    found.search_requested.connect(searches.append)
    found.add_place(comfy)
    found.add_place(comfy)
    assert searches[0].cancel.is_set()
    assert not searches[1].cancel.is_set()
    found.add_file(searches[0], files[VAE_21])
    found.add_tokenizer(searches[0], comfy / "spiece.model")
    found.add_refused(searches[0], EngineError(ErrorCode.MODEL_INVALID, file="x", reason="y"))
    found.end_search(searches[0], "")
    assert [*found.files(), *found.refused(), *found.tokenizers()] == []
    assert found.is_searching
    found.close()
    assert searches[1].cancel.is_set()


def test_a_file_in_two_places_is_one(comfy: Path) -> None:
    found = FoundModels()
    feed(found, comfy, VAE_21)
    feed(found, comfy / "vae", Path(VAE_21).name)
    items = FoundItems(found)
    for place in (comfy / "vae", None):
        assert [file.path for file in found.files()] == [comfy / VAE_21]
        assert items.rowCount() == 1
        if place is not None:
            found.remove_place(place)
    found.close()


@pytest.mark.parametrize(
    ("names", "chosen"),
    [(WHOLE, T2V_SMALL), ((*WHOLE, I2V_14B), I2V_14B), ((I2V_14B, VAE_21), I2V_14B), ((VAE_21,), None)],
)
def test_a_new_folder_gives_the_first_model_that_runs(comfy: Path, names: tuple[str, ...], chosen: str | None) -> None:
    found = FoundModels()
    library = Library(found, EMBEDDED_MODEL, DEFAULTS)
    searches: list[Search] = []
    found.search_requested.connect(searches.append)
    library.add_place(comfy)
    for name in names:
        found.add_file(searches[0], found_file(comfy / name))
    found.end_search(searches[0], "")
    assert library.choice.model == (EMBEDDED_MODEL if chosen is None else comfy / chosen)
    library.choose_model(EMBEDDED_MODEL)
    found.search_again()
    for name in names:
        found.add_file(searches[1], found_file(comfy / name))
    found.end_search(searches[1], "")
    assert library.choice.model == EMBEDDED_MODEL, "only what the person names anew is chosen from"


def test_lines_stay_while_more_is_found(comfy: Path, files: dict[str, FoundFile]) -> None:
    found = FoundModels()
    items = FoundItems(found)
    searches: list[Search] = []
    found.search_requested.connect(searches.append)
    found.add_place(comfy)
    names: list[list[str]] = []
    held: list[QPersistentModelIndex] = []
    for name in (VAE_21, LORA_14B, T2V_14B, TEXT_ENCODER):
        found.add_file(searches[0], files[name])
        items.refresh()
        names.append([items.index(row, 0).data() for row in range(items.rowCount())])
        held.append(QPersistentModelIndex(items.index(names[-1].index(Path(name).name), 0)))
    assert names[-1] == [Path(name).name for name in (T2V_14B, TEXT_ENCODER, VAE_21, LORA_14B)]
    assert [index.data() for index in held] == [Path(name).name for name in (VAE_21, LORA_14B, T2V_14B, TEXT_ENCODER)]
    found.remove_place(comfy)
    assert (items.rowCount(), held[0].isValid()) == (0, False)


PATHS = st.text(min_size=1).map(lambda text: Path("/models") / text.replace("/", "").replace("\0", ""))
OPTIONAL = st.none() | PATHS


@given(
    st.builds(
        ModelUse,
        model=st.just(EMBEDDED_MODEL) | PATHS,
        parts=st.builds(ModelParts, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL, OPTIONAL),
        weights=st.sampled_from(WeightForm),
        loras=st.lists(
            st.builds(LoraUse, PATHS, st.floats(-4, 4), st.none() | st.sampled_from(Expert)), max_size=3
        ).map(tuple),
    )
)
def test_a_choice_survives_the_settings(use: ModelUse) -> None:
    assert use_from(use_text(use)) == use


@given(st.text() | st.sampled_from(["", "{}", "[]", "null", "3", '{"model": 3}', '{"model": "/x", "parts": 1}']))
def test_settings_that_say_something_else_mean_the_embedded_model(text: str) -> None:
    assert use_from(text) == ModelUse()
