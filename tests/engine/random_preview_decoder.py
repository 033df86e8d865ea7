"""Preview decoders of random weights in the layout of the published files; shared by the tests of previews."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.models.preview_decoder import PreviewDecoder, PreviewDecoderConfig
from tests.engine.tiny_model import VAE
from tests.parity.official import DATA

CONFIGS = {
    "taew2_1": PreviewDecoderConfig(),
    "taew2_2": PreviewDecoderConfig(latent_channels=48, patch_size=2),
    "taew2_2_super": PreviewDecoderConfig(48, 2, (512, 256, 128, 64), is_super=True),
}
TINY = PreviewDecoderConfig(latent_channels=VAE.z_dim, widths=(16, 8, 8, 4))
TINY_SUPER = PreviewDecoderConfig(VAE.z_dim, 1, (16, 12, 8, 4), is_super=True)


def manifest(name: str) -> dict[str, Any]:
    """Names, shapes and kinds of layers of a published file."""
    content: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text("utf-8"))
    return content


def random_decoder(config: PreviewDecoderConfig, seed: int = 0) -> PreviewDecoder:
    """The same weights for the same seed; scaled so that pictures are neither flat nor cut off."""
    torch.manual_seed(seed)
    decoder = PreviewDecoder(config).requires_grad_(False)
    latents = torch.randn(1, 2, config.latent_channels, 4, 5)
    features: list[Tensor] = []
    head = decoder.decoder[-1]
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    hook = head.register_forward_hook(lambda _, __, out: features.append(out))
    decoder(latents)
    hook.remove()
    head.weight.mul_(0.2 / features[0].std(dim=(0, 2, 3)).mean())
    head.bias.fill_(0.5)
    return decoder.eval()


def with_encoder(decoder: PreviewDecoder) -> dict[str, Tensor]:
    """The tensors of `decoder`, and some of the encoder that lies in the same file."""
    encoder = {"encoder.0.weight": torch.zeros(64, 3, 3, 3), "encoder.2.conv.weight": torch.zeros(64, 128, 1, 1)}
    return encoder | decoder.state_dict()


def store(decoder: PreviewDecoder, path: Path) -> Path:
    """Write `decoder` as its file is published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = with_encoder(decoder)
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    return path
