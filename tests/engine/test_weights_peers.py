"""Files that peers really write, from disk to values: what is found where gives the networks what the peers compute."""

import json
from pathlib import Path
from typing import TypeVar

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.models.image_encoder import ImageEncoder, ImageEncoderConfig
from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import WanTransformer
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.weights.containers import open_checkpoint
from engine.weights.dequantize import values_of
from engine.weights.inspect import FileReport, FolderReport, inspect, inspect_files
from engine.weights.load import load_image_encoder
from engine.weights.names import Layout
from engine.weights.quantize import quantize_weight
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import QuantFormat
from engine.weights.stored_header import read_stored_header
from engine.weights.whole import open_network
from tests.engine.manifests import by_others
from tests.engine.tiny_model import TRANSFORMER

Network = TypeVar("Network", bound=nn.Module)


def load(network: Network, file: Path) -> Network:
    """`network` with the values of `file`, found by their description."""
    opened = open_network((file,), inspect_files((file,)).model.role)
    checkpoint, found = opened.checkpoint, opened.description
    names = network.state_dict()
    values = {name: values_of(found.sources[name], checkpoint.read, checkpoint.header, torch.float32) for name in names}
    network.load_state_dict(values, strict=True)
    network.eval()
    return network


def save(network: nn.Module, file: Path) -> Path:
    save_file({name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}, file)
    return file


@torch.no_grad()
def test_a_clip_of_transformers_gives_the_same_features(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, projection_dim=4,
        image_size=28, patch_size=14, hidden_act="gelu",
    )  # fmt: skip
    theirs = CLIPVisionModelWithProjection(config).eval()
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)
    size = ImageEncoderConfig(image_size=28, patch_size=14, dim=16, mlp_dim=24, num_heads=2, num_layers=2)
    ours = load(ImageEncoder(size), save(theirs, tmp_path / "clip.safetensors"))
    picture = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(ours(picture), theirs(picture, output_hidden_states=True).hidden_states[-2])


@torch.no_grad()
def test_the_image_encoder_loads_with_sizes_from_its_shapes(tmp_path: Path) -> None:
    """Heads of 80 channels, as in every CLIP that Wan uses."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=160, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, projection_dim=4,
        image_size=28, patch_size=14, hidden_act="gelu",
    )  # fmt: skip
    theirs = CLIPVisionModelWithProjection(config).eval()
    file = save(theirs, tmp_path / "clip.safetensors")
    ours, picture = load_image_encoder((file,), torch.device("cpu"), torch.float32), torch.randn(1, 3, 28, 28)
    features = theirs(picture, output_hidden_states=True).hidden_states[-2]
    torch.testing.assert_close(ours(picture), features, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_vae_of_diffusers_gives_the_same_video(tmp_path: Path) -> None:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    theirs = AutoencoderKLWan(base_dim=4, z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4).eval()
    config = VideoVaeConfig(dim=4, z_dim=4, latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4)
    ours = load(VideoVae(config), save(theirs, tmp_path / "vae.safetensors"))
    latents = torch.randn(1, 4, 2, 4, 4)
    torch.testing.assert_close(ours.decode(latents).clamp(-1, 1), theirs.decode(latents).sample, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_umt5_of_transformers_gives_the_same_rows(tmp_path: Path) -> None:
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=40, d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
    )  # fmt: skip
    theirs = UMT5EncoderModel(config).eval()
    ours = load(TextEncoder(TextEncoderConfig(40, 16, 16, 24, 4, 2)), save(theirs, tmp_path / "umt5.safetensors"))
    ids = torch.randint(0, 40, (1, 9))
    mask = torch.ones_like(ids)
    torch.testing.assert_close(ours(ids, mask), theirs(ids, mask).last_hidden_state, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("form", [QuantFormat.FP8_E4M3, QuantFormat.NVFP4])
def test_weights_declared_one_by_one_are_read_as_they_were_written(tmp_path: Path, form: QuantFormat) -> None:
    """Every value is that of the network whose weights were rounded in memory, behind a prefix and with padding."""
    torch.manual_seed(0)
    network = WanTransformer(TRANSFORMER)
    stored: dict[str, Tensor] = {}
    declaration = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
    for name, value in network.state_dict().items():
        layer = name.removesuffix(".weight")
        if not (name.endswith(".weight") and is_quantized_layer(layer, form)):
            stored[f"model.diffusion_model.{name}"] = value.clone()
            continue
        weight = quantize_weight(value, form, scale_rows=False)
        parts = {f".{part}": tensor for part, tensor in weight.parts.items()}
        beside = {".weight": weight.data, ".comfy_quant": declaration.clone(), **parts}
        stored |= {f"model.diffusion_model.{layer}{ending}": tensor for ending, tensor in beside.items()}
        value.copy_(_rounded(weight.data, parts, form, value))
    save_file(stored, tmp_path / "model.safetensors")
    loaded = load(WanTransformer(TRANSFORMER), tmp_path / "model.safetensors")
    assert inspect_files((tmp_path / "model.safetensors",)).model.quantization[form].layers >= 20
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.get_parameter(name), value, atol=1e-6, rtol=1e-6)


def _rounded(data: Tensor, parts: dict[str, Tensor], form: QuantFormat, value: Tensor) -> Tensor:
    """The values by the formats' definitions, read anew."""
    if form is QuantFormat.FP8_E4M3:
        return data.float() * parts[".weight_scale"]
    import comfy_kitchen

    scales, whole = parts[".weight_scale"], parts[".weight_scale_2"]
    found: Tensor = comfy_kitchen.dequantize_nvfp4(data, whole, scales, output_type=torch.float32)
    return found[: value.shape[0], : value.shape[1]]


def write_gguf(file: Path, network: nn.Module, names: dict[str, str], architecture: str) -> Path:
    """The network as GGUF, its wide matrices in blocks of eight bits, and a vocabulary as those of text encoders."""
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_tokenizer_model("t5")
    writer.add_token_list(["<pad>", "</s>", "a"])
    for official, value in network.state_dict().items():
        array = value.numpy().astype(np.float32)
        is_wide = array.ndim == 2 and array.shape[1] % 32 == 0 and ".ffn." in official
        kind = gguf.GGMLQuantizationType.Q8_0 if is_wide else gguf.GGMLQuantizationType.F32
        writer.add_tensor(names[official], gguf.quants.quantize(array, kind) if is_wide else array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@torch.no_grad()
def test_a_umt5_of_ggufs_names_and_blocks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(TextEncoderConfig(40, 32, 32, 64, 4, 2))
    names = {official: _gguf_name(theirs) for theirs, official in by_others("umt5_xxl_encoder_official").items()}
    file = write_gguf(tmp_path / "umt5-Q8_0.gguf", encoder, names, "t5encoder")
    report = inspect(file)
    assert isinstance(report, FileReport)
    assert (report.model.layout, report.has_tokenizer) == (Layout.GGUF, True)
    assert report.model.quantization["Q8_0"].layers == 6
    loaded = load(TextEncoder(encoder.config), file)
    for name, value in encoder.state_dict().items():
        difference = (loaded.get_parameter(name) - value).abs().max()
        assert difference <= (value.abs().max() / 127 if ".ffn." in name else 0)
    folder = inspect(tmp_path)
    assert isinstance(folder, FolderReport)
    assert folder.missing == ("diffusion_pytorch_model.safetensors", "Wan2.1_VAE.pth")


def _gguf_name(theirs: str) -> str:
    parts = theirs.split(".")
    block = f"enc.blk.{parts[2]}." if len(parts) > 3 else ""
    ends = {"wi_0": "ffn_gate", "wi_1": "ffn_up", "wo": "ffn_down", "relative_attention_bias": "attn_rel_b"}
    ends |= {letter: f"attn_{letter}" for letter in "qkvo"}
    if not block:
        return {"shared": "token_embd.weight", "encoder": "enc.output_norm.weight"}[parts[0]]
    norm = "attn_norm" if parts[4] == "0" else "ffn_norm"
    return f"{block}{ends.get(parts[-2], norm)}.weight"


def test_headers_without_torch_are_those_of_the_checkpoints(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = TextEncoder(TextEncoderConfig(40, 32, 32, 64, 4, 2))
    names = {official: _gguf_name(theirs) for theirs, official in by_others("umt5_xxl_encoder_official").items()}
    torch.save(network.state_dict(), tmp_path / "umt5.pth")
    for file in (
        save(network, tmp_path / "umt5.safetensors"),
        write_gguf(tmp_path / "umt5.gguf", network, names, "t5encoder"),
        tmp_path / "umt5.pth",
    ):
        stored, checkpoint = read_stored_header((file,)), open_checkpoint((file,))
        assert stored.header == checkpoint.header
        assert dict(stored.metadata) == dict(checkpoint.metadata)
        for name in checkpoint.header:
            assert stored.read(name) == checkpoint.read(name).contiguous().view(-1).view(torch.uint8).numpy().tobytes()
