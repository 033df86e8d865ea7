"""Loading: every stored value arrives, in the right dtype; what does not fit is refused by name."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.errors import EngineError, ErrorCode
from engine.models.float32_islands import keeps_float32
from engine.models.video_vae import VideoVaeConfig
from engine.models.video_vae22 import VideoVae22, VideoVae22Config, vae_of
from engine.weights.configs import vae_config
from engine.weights.detect import ModelFiles, find_model
from engine.weights.expected_vae import vae_shapes, vae_sizes
from engine.weights.header import read_header
from engine.weights.load import load_text_encoder, load_tokenizer, load_transformer, load_vae
from engine.weights.transformer_config import transformer_config
from tests.engine.tiny_model import TRANSFORMER, VAE, build_tiny_model

CPU = torch.device("cpu")
# With the statistics of the tiny model, so that it can take the place of that model's VAE.
VAE_22 = VideoVae22Config(
    dim=4, decoder_dim=6, z_dim=8, num_res_blocks=1, latents_mean=VAE.latents_mean, latents_std=VAE.latents_std
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def files(built: Path, tmp_path: Path) -> ModelFiles:
    return find_model(shutil.copytree(built, tmp_path / "model"))


@pytest.fixture
def files_22(files: ModelFiles) -> ModelFiles:
    save_file(vae_of(VAE_22).state_dict(), files.vae[0])
    return found_again(files)


def found_again(files: ModelFiles) -> ModelFiles:
    assert files.folder is not None
    return find_model(files.folder)


def load(files: ModelFiles, network: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    match network:
        case "transformer":
            return load_transformer(files, CPU, dtype)
        case "text_encoder":
            return load_text_encoder(files, CPU, dtype)
        case _:
            return load_vae(files, CPU, dtype)


def edit(file: Path, **changes: Tensor | None) -> None:
    """Store `file` again with some tensors replaced, added, or (None) left out."""
    tensors: dict[str, Any] = {name: tensor.clone() for name, tensor in load_file(file).items()}
    save_file({name: tensor for name, tensor in (tensors | changes).items() if tensor is not None}, file)


def reason(files: ModelFiles, network: str, file: Path) -> str:
    """Why loading failed; the failure must name `file`."""
    with pytest.raises(EngineError) as caught:
        load(files, network)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(file)
    return str(caught.value.details["reason"])


@pytest.mark.parametrize("network", ["transformer", "text_encoder", "vae"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_value_arrives(files: ModelFiles, network: str, dtype: torch.dtype) -> None:
    model = load(files, network, dtype)
    stored = load_file(getattr(files, network)[0])
    assert model.state_dict().keys() == stored.keys()
    for name, tensor in model.state_dict().items():
        kept = network == "transformer" and keeps_float32(name)
        assert tensor.dtype == (torch.float32 if kept else dtype), name
        assert torch.equal(tensor, stored[name].to(tensor.dtype)), name
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_split_transformer_is_put_together(files: ModelFiles) -> None:
    whole = files.transformer[0]
    tensors = list(load_file(whole).items())
    for i in (1, 2):
        save_file(dict(tensors[i - 1 :: 2]), whole.with_name(f"part-{i:05}-of-00002.safetensors"))
    whole.unlink()
    model = load(found_again(files), "transformer")
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in tensors)


def test_sizes_are_those_that_were_stored(files: ModelFiles) -> None:
    assert transformer_config(files) == TRANSFORMER
    assert vae_config(files) == VAE


@pytest.mark.parametrize(
    "config",
    [
        VideoVaeConfig(dim=4),
        VideoVaeConfig(dim=4, dim_mult=(1, 3, 2), num_res_blocks=3, temporal_downsample=(True, False)),
        VideoVaeConfig(dim=4, dim_mult=(2, 2, 2, 2), num_res_blocks=1, temporal_downsample=(True, True, False)),
        VideoVae22Config(dim=4, decoder_dim=6),
        VideoVae22Config(dim=4, dim_mult=(2, 4, 2), num_res_blocks=1, temporal_downsample=(True, False), patch_size=4),
        VideoVae22Config(dim=4, decoder_dim=2, num_res_blocks=12, temporal_downsample=(True, False, True)),
    ],
)
def test_vae_sizes_from_shapes_alone(files: ModelFiles, config: VideoVaeConfig) -> None:
    """With as many channels as Wan's own and no JSON beside it, a VAE has the statistics of Wan 2.1 or 2.2."""
    assert files.vae_config is not None
    files.vae_config.unlink()
    save_file(vae_of(config).state_dict(), files.vae[0])
    assert vae_config(found_again(files)) == config


@pytest.mark.parametrize("kind", ["files", "files_22"])
def test_statistics_are_never_guessed(kind: str, request: pytest.FixtureRequest) -> None:
    files: ModelFiles = request.getfixturevalue(kind)
    assert files.vae_config is not None
    files.vae_config.unlink()
    assert "latents_mean is not 8 numbers" in reason(found_again(files), "vae", files.vae[0])


@torch.no_grad()
def test_a_vae_of_wan_22_is_what_was_stored(files_22: ModelFiles) -> None:
    stored = vae_of(VAE_22)
    stored.load_state_dict(load_file(files_22.vae[0]))
    vae = load(files_22, "vae")
    assert isinstance(vae, VideoVae22)
    assert vae.config == VAE_22
    latents = torch.randn(1, 8, 2, 1, 2)
    assert torch.equal(vae.decode(latents), stored.decode(latents))


@pytest.mark.parametrize(
    ("content", "expected"),
    [({"patch_size": 4, "dim": 4}, "patch_size"), ({"decoder_dim": 4}, "decoder_dim"), ({"dim_mult": "x"}, "dim_mult")],
)
def test_a_json_that_contradicts_the_tensors(files_22: ModelFiles, content: dict[str, Any], expected: str) -> None:
    assert files_22.vae_config is not None
    files_22.vae_config.write_text(json.dumps(content), "utf-8")
    assert reason(files_22, "vae", files_22.vae_config) == f"other than in {files_22.vae[0].name}: {expected}"


def with_sizes(files: ModelFiles, **changes: int | tuple[int, ...]) -> None:
    """Store zeros for a VAE of other sizes, every tensor as these sizes have it."""
    stored = {name: info.shape for name, info in read_header(files.vae[0]).items()}
    sizes = dataclasses.replace(vae_sizes(stored), **changes)  # type: ignore[arg-type]
    save_file({name: torch.zeros(shape) for name, shape in vae_shapes(sizes).items()}, files.vae[0])


def test_widths_that_shortcuts_cannot_share_out(files_22: ModelFiles) -> None:
    with_sizes(files_22, dim_mult=(1, 2, 3, 4))
    assert "widths that do not divide: down 2 to 3" in reason(files_22, "vae", files_22.vae[0])


@pytest.mark.parametrize("channels", [2, 3 * 5])
def test_patches_that_are_no_squares(files_22: ModelFiles, channels: int) -> None:
    with_sizes(files_22, picture_channels=channels)
    assert f"{channels} channels are no square patch" in reason(files_22, "vae", files_22.vae[0])


@pytest.mark.parametrize("kind", ["files", "files_22"])
def test_an_encoder_without_layers(kind: str, request: pytest.FixtureRequest) -> None:
    files: ModelFiles = request.getfixturevalue(kind)
    names = [name for name in load_file(files.vae[0]) if name.startswith("encoder.downsamples.")]
    edit(files.vae[0], **dict.fromkeys(names))
    assert reason(files, "vae", files.vae[0]) == "missing: encoder.downsamples"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"latents_mean": [0, 1]}', "latents_mean is not 8 numbers"),
        ('{"latents_mean": "x"}', "latents_mean is not 8 numbers"),
        ('{"latent_mean": [0]}', "unknown: latent_mean"),
        ('{"patch_size": 2}', "unknown: patch_size"),
        ('{"dim": 16}', "dim"),
        ("[]", "not a JSON object"),
        ("{", "Expecting"),
        ("\udcff", "codec"),
    ],
)
def test_broken_vae_json(files: ModelFiles, content: str, expected: str) -> None:
    assert files.vae_config is not None
    files.vae_config.write_text(content, "utf-8", errors="surrogateescape")
    assert expected in reason(files, "vae", files.vae_config)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"in_dim": 36}, "in_dim is 36, the tensors have 8"),
        ({"num_layers": 3}, "num_layers is 3, the tensors have 2"),
        ({"num_heads": 5}, "num_heads 5"),
        ({"num_heads": "4"}, "num_heads is '4'"),
        ({"num_heads": 0}, "num_heads is 0"),
        ({"num_layers": True}, "num_layers is True"),
        ({"dim": None}, "dim is None"),
        ({"eps": "small"}, "eps is 'small'"),
        ({"patch_size": 2}, "patch_size is 2"),
        ({"patch_size": [1, 2]}, "patch_size is (1, 2)"),
        ({"patch_size": [1, 2, "2"]}, "patch_size is (1, 2, '2')"),
    ],
)
def test_wrong_transformer_config(files: ModelFiles, changes: dict[str, Any], expected: str) -> None:
    assert files.transformer_config is not None
    content = json.loads(files.transformer_config.read_text("utf-8"))
    files.transformer_config.write_text(json.dumps(content | changes), "utf-8")
    assert expected in reason(files, "transformer", files.transformer_config)


@pytest.mark.parametrize("content", ["", "{", "null", "[1]", '{"dim": 64}'])
def test_broken_transformer_config(files: ModelFiles, content: str) -> None:
    assert files.transformer_config is not None
    files.transformer_config.write_text(content, "utf-8")
    assert reason(files, "transformer", files.transformer_config)


def test_heads_are_never_guessed(files: ModelFiles) -> None:
    """Wan's own sizes come with heads of 128 channels; of others, only the JSON file can tell."""
    assert files.transformer_config is not None
    files.transformer_config.write_text('{"dim": 64}', "utf-8")
    assert "should state num_heads" in reason(files, "transformer", files.transformer_config)


@pytest.mark.parametrize(
    ("network", "name"),
    [("transformer", "blocks.1.ffn.0.weight"), ("text_encoder", "blocks.1.norm2.weight"), ("vae", "conv1.bias")],
)
def test_tensors_that_do_not_fit_are_named(files: ModelFiles, network: str, name: str) -> None:
    file = getattr(files, network)[0]
    edit(file, **{name: None, "stranger": torch.zeros(2)})
    assert reason(files, network, file) == f"missing: {name}; unexpected: stranger"
    edit(file, **{name: torch.zeros(3, 7), "stranger": None})
    assert reason(files, network, file).startswith(f"wrong shape: {name} [3, 7] instead of [")


@pytest.mark.parametrize(
    ("network", "name"),
    [
        ("text_encoder", "token_embedding.weight"),
        ("text_encoder", "blocks.0.ffn.fc1.weight"),
        ("vae", "conv2.weight"),
        ("vae", "encoder.downsamples.0.residual.6.weight"),
    ],
)
def test_tensors_that_sizes_are_read_from(files: ModelFiles, network: str, name: str) -> None:
    file = getattr(files, network)[0]
    edit(file, **{name: None})
    assert name in reason(files, network, file)
    edit(file, **{name: torch.tensor(1.0)})
    assert reason(files, network, file)


def test_long_lists_are_shortened(files: ModelFiles) -> None:
    edit(files.vae[0], **{f"stranger.{i:02}": torch.zeros(1) for i in range(12)})
    assert reason(files, "vae", files.vae[0]).endswith("stranger.04 and 7 more")


def test_a_file_cut_after_it_was_found(files: ModelFiles) -> None:
    file = files.transformer[0]
    file.write_bytes(file.read_bytes()[:-10])
    assert "cut short" in reason(files, "transformer", file)


def test_a_file_gone_after_it_was_found(files: ModelFiles) -> None:
    files.text_encoder[0].unlink()
    assert reason(files, "text_encoder", files.text_encoder[0])


@pytest.mark.parametrize("content", [b"", b"not a model at all"])
def test_broken_tokenizer(files: ModelFiles, content: bytes) -> None:
    files.tokenizer.write_bytes(content)
    with pytest.raises(EngineError) as caught:
        load_tokenizer(files)
    assert caught.value.code is ErrorCode.MODEL_INVALID
    assert caught.value.details["file"] == str(files.tokenizer)
