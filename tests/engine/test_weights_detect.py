"""Finding a model's files: by their tensors, wherever they lie and whatever they are called."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import EngineError, ErrorCode
from engine.model_choice import ModelParts
from engine.models.video_vae22 import VideoVae22, VideoVae22Config
from engine.weights.detect import find_model, find_vae
from tests.engine.manifests import in_dtype, shapes
from tests.engine.sparse_files import write_sparse
from tests.engine.tiny_model import build_tiny_model


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "model")


def failure(folder: Path) -> EngineError:
    with pytest.raises(EngineError) as caught:
        find_model(folder)
    return caught.value


def test_roles_come_from_tensors_not_names(folder: Path) -> None:
    """Three files whose names are rotated among the roles, in subfolders, are still told apart."""
    for source, target in {
        "Wan2.1_VAE.safetensors": "vae/diffusion_pytorch_model.safetensors",
        "Wan2.1_VAE.json": "vae/diffusion_pytorch_model.json",
        "models_t5_umt5.safetensors": "Wan2.1_VAE.safetensors",
        "diffusion_pytorch_model.safetensors": "transformer/models_t5_umt5.safetensors",
        "config.json": "transformer/config.json",
        "spiece.model": "google/umt5-xxl/spiece.model",
    }.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).rename(folder / target)
    files = find_model(folder)
    assert files.transformer == (folder / "transformer/models_t5_umt5.safetensors",)
    assert files.transformer_config == folder / "transformer/config.json"
    assert files.text_encoder == (folder / "Wan2.1_VAE.safetensors",)
    assert files.vae == (folder / "vae/diffusion_pytorch_model.safetensors",)
    assert files.vae_config == folder / "vae/diffusion_pytorch_model.json"
    assert files.tokenizer == folder / "google/umt5-xxl/spiece.model"
    assert files.latent_rgb == folder / "latent_rgb.json"


def save_vae_22(file: Path) -> None:
    save_file(VideoVae22(VideoVae22Config(dim=4, decoder_dim=4, num_res_blocks=1)).state_dict(), file)


def test_a_vae_of_wan_22_takes_the_same_place(folder: Path) -> None:
    """That it does not fit this transformer is not said here."""
    (folder / "Wan2.1_VAE.safetensors").unlink()
    save_vae_22(folder / "wan2.2_vae.safetensors")
    files = find_model(folder)
    assert files.vae == (folder / "wan2.2_vae.safetensors",)
    assert files.vae_config is None


def test_of_vaes_of_both_kinds_the_one_that_fits_is_taken(folder: Path) -> None:
    save_vae_22(folder / "a_wan2.2_vae.safetensors")
    assert find_model(folder).vae == (folder / "Wan2.1_VAE.safetensors",)


def test_notes_in_a_header_are_no_tensor(folder: Path) -> None:
    """Published files carry `{"format": "pt"}` beside the tensors."""
    file = folder / "Wan2.1_VAE.safetensors"
    save_file({name: tensor.clone() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    assert find_model(folder).vae == (file,)


def test_optional_files_may_be_absent_and_strangers_present(folder: Path) -> None:
    (folder / "Wan2.1_VAE.json").unlink()
    (folder / "latent_rgb.json").unlink()
    tensors = load_file(folder / "Wan2.1_VAE.safetensors")
    save_file({"lora_A.weight": tensors["conv2.weight"]}, folder / "a_lora.safetensors")
    files = find_model(folder)
    assert files.vae_config is None
    assert files.latent_rgb is None


@pytest.mark.parametrize("exists", [True, False])
def test_everything_missing_is_named_at_once(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "nothing"
    if exists:
        folder.mkdir()
    error = failure(folder)
    assert error.code is ErrorCode.MODEL_NOT_FOUND
    assert error.details["folder"] == str(folder)
    assert error.details["missing"] == (
        "diffusion_pytorch_model.safetensors, models_t5_umt5-xxl-enc-bf16.pth, google/umt5-xxl/spiece.model, "
        "Wan2.1_VAE.pth"
    )


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("models_t5_umt5.safetensors", "models_t5_umt5-xxl-enc-bf16.pth"),
        ("Wan2.1_VAE.safetensors", "Wan2.1_VAE.pth"),
        ("config.json", "config.json"),
        ("spiece.model", "google/umt5-xxl/spiece.model"),
    ],
)
def test_one_missing_file_is_named_alone(folder: Path, name: str, official: str) -> None:
    """By the name under which people find it."""
    (folder / name).unlink()
    assert failure(folder).details["missing"] == official


def test_a_missing_transformer_is_named(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    assert "diffusion_pytorch_model.safetensors" in str(failure(folder).details["missing"])


def split(file: Path) -> list[Path]:
    """Store `file` as three parts under the names of a split checkpoint."""
    tensors = list(load_file(file).items())
    parts = [file.with_name(f"{file.stem}-{i:05}-of-00003.safetensors") for i in (1, 2, 3)]
    for i, part in enumerate(parts):
        save_file(dict(tensors[i::3]), part)
    file.unlink()
    return parts


def test_parts_of_a_split_transformer_belong_together(folder: Path) -> None:
    parts = split(folder / "diffusion_pytorch_model.safetensors")
    assert find_model(folder).transformer == tuple(parts)


def test_a_missing_part_is_named(folder: Path) -> None:
    parts = split(folder / "diffusion_pytorch_model.safetensors")
    parts[1].unlink()
    error = failure(folder)
    assert error.code is ErrorCode.MODEL_INVALID
    assert parts[1].name in str(error.details["reason"])


@pytest.mark.parametrize("name", ["Wan2.1_VAE.safetensors", "spiece.model"])
def test_two_files_for_one_role_are_refused(folder: Path, name: str) -> None:
    copy = folder / "zz" / name
    copy.parent.mkdir()
    shutil.copy(folder / name, copy)
    error = failure(folder)
    assert error.code is ErrorCode.MODEL_INVALID
    assert error.details["file"] == str(copy)
    assert str(folder / name) in str(error.details["reason"])


@pytest.mark.parametrize("size", [0, 5, 8, 1000, -1])
def test_a_truncated_file_is_named(folder: Path, size: int) -> None:
    """Cut in the length, in the header, and one byte before the end."""
    file = folder / "models_t5_umt5.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    error = failure(folder)
    assert error.code is ErrorCode.MODEL_INVALID
    assert error.details["file"] == str(file)


@pytest.mark.parametrize(
    "header", [b"{}", b"[1]", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b'{"a": {"dtype": "F32", "shape": "x"}}']
)
def test_a_file_of_something_else_is_named(folder: Path, header: bytes) -> None:
    file = folder / "Wan2.1_VAE.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    error = failure(folder)
    if header == b"{}":  # a whole file without tensors: simply not the VAE
        assert error.details["missing"] == "Wan2.1_VAE.pth"
    else:
        assert error.code is ErrorCode.MODEL_INVALID
        assert error.details["file"] == str(file)


def test_detection_needs_no_torch() -> None:
    code = "import sys, engine.weights.detect; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_are_named_one_by_one(folder: Path, tmp_path: Path) -> None:
    """As the programs have it that keep a folder for each kind: only the transformer's own file is the model."""
    moved = {}
    for name in ("models_t5_umt5.safetensors", "Wan2.1_VAE.safetensors", "spiece.model"):
        moved[name] = tmp_path / name.split(".")[0] / name
        moved[name].parent.mkdir()
        (folder / name).rename(moved[name])
    transformer = folder / "diffusion_pytorch_model.safetensors"
    with pytest.raises(EngineError, match=r"missing=Wan2\.1_VAE\.pth, models_t5_umt5.*spiece\.model"):
        find_model(transformer)
    text_encoder, vae, tokenizer = moved.values()
    files = find_model(transformer, ModelParts(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer))
    assert (files.transformer, files.vae, files.text_encoder) == ((transformer,), (vae,), (text_encoder,))
    assert files.tokenizer == tokenizer
    with pytest.raises(EngineError, match="not a vae"):
        find_model(transformer, ModelParts(vae=text_encoder))


def test_a_vae_alone_is_enough_to_decode(folder: Path) -> None:
    vae = folder / "Wan2.1_VAE.safetensors"
    for place in (folder, vae):
        files = find_vae(place)
        assert (files.vae, files.vae_config) == ((vae,), vae.with_suffix(".json"))


def test_two_experts_are_told_apart_by_their_names(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "Wan2.1_VAE.safetensors").unlink()
    (folder / "config.json").unlink()
    write_sparse(folder / "wan_2.1_vae.safetensors", in_dtype(shapes("wan2.1_vae")))
    experts = {name: folder / f"wan2.2_t2v_{name}_noise_14B_fp16.safetensors" for name in ("high", "low")}
    write_sparse(experts["high"], in_dtype(shapes("wan2.2_t2v_A14B")))
    assert failure(folder).details["missing"] == "low_noise_model/diffusion_pytorch_model.safetensors"
    write_sparse(experts["low"], in_dtype(shapes("wan2.2_t2v_A14B")))
    files = find_model(folder)
    assert (files.transformer, files.low_noise) == ((experts["high"],), (experts["low"],))
    elsewhere = experts["low"].rename(folder.parent / "second.safetensors")
    files = find_model(folder, ModelParts(low_noise=elsewhere))
    assert (files.transformer, files.low_noise) == ((experts["high"],), (elsewhere,))


def test_transformers_of_two_models_are_not_chosen_between(folder: Path) -> None:
    write_sparse(folder / "wan2.1_t2v_1.3B.safetensors", in_dtype(shapes("wan2.1_t2v_1.3B")))
    error = failure(folder)
    assert error.code is ErrorCode.MODEL_INVALID
    assert "one is needed, so name it" in str(error.details["reason"])
    transformer = folder / "diffusion_pytorch_model.safetensors"
    parts = ModelParts(
        vae=folder / "Wan2.1_VAE.safetensors",
        text_encoder=folder / "models_t5_umt5.safetensors",
        tokenizer=folder / "spiece.model",
    )
    assert find_model(transformer, parts).transformer == (transformer,)


def test_networks_of_other_programs_say_nothing(folder: Path) -> None:
    """A folder of ComfyUI's holds them by the dozen; what is missing is what a person must hear."""
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(2)}, folder / "a_sdxl.safetensors")
    find_model(folder)
    (folder / "spiece.model").unlink()
    assert failure(folder).details["missing"] == "google/umt5-xxl/spiece.model"


def test_tokenizers_of_other_networks_are_not_in_the_way(folder: Path) -> None:
    """As in the official folder of the older image-to-video model."""
    for name in ("google/umt5-xxl", "xlm-roberta-large"):
        (folder / name).mkdir(parents=True)
        (folder / name / "tokenizer.json").write_text("{}")
    assert find_model(folder).tokenizer == folder / "spiece.model"


def test_image_encoders_count_only_where_they_are_used(folder: Path) -> None:
    for name in ("a", "b"):
        write_sparse(folder / f"clip_{name}.safetensors", in_dtype(shapes("clip_vit_h_visual")))
    assert find_model(folder).image_encoder is None


def test_decoding_needs_no_choice_of_a_transformer(folder: Path) -> None:
    write_sparse(folder / "wan2.1_t2v_1.3B.safetensors", in_dtype(shapes("wan2.1_t2v_1.3B")))
    write_sparse(folder / "wan2.1_t2v_14B.safetensors", in_dtype(shapes("wan2.1_t2v_14B")))
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    write_sparse(folder / "wan_2.1_vae.safetensors", in_dtype(shapes("wan2.1_vae")))
    assert find_vae(folder).vae == (folder / "wan_2.1_vae.safetensors",)
