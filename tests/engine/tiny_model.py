"""A whole model of random weights, stored exactly like a real one, small enough for tests."""

import dataclasses
import io
import json
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from torch import nn

from engine.models.text_encoder import TextEncoder, TextEncoderConfig
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.models.video_vae import VideoVae, VideoVaeConfig

TRANSFORMER = TransformerConfig(
    dim=64, ffn_dim=96, freq_dim=32, num_heads=4, num_layers=2, in_dim=8, out_dim=8, text_len=16, text_dim=32,
    patch_size=(1, 2, 2),
)  # fmt: skip
VAE = VideoVaeConfig(dim=8, z_dim=8, num_res_blocks=1, latents_mean=(0.1,) * 8, latents_std=(1.5,) * 8)
WORDS = ("red", "blue", "green", "ball", "box", "star", "bouncing", "falling", "on", "a", "background", "球", "红色")


def build_tiny_model(folder: Path, transformer: TransformerConfig = TRANSFORMER) -> Path:
    """Write the model into `folder`; the same weights every time."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    pieces = _train_pieces(folder / "spiece.model")
    encoder = TextEncoder(
        TextEncoderConfig(
            vocab_size=pieces,
            dim=transformer.text_dim,
            dim_attn=transformer.text_dim,
            dim_ffn=64,
            num_heads=4,
            num_layers=2,
        )
    )
    _save(WanTransformer(transformer), folder / "diffusion_pytorch_model.safetensors")
    _save(encoder, folder / "models_t5_umt5.safetensors")
    _save(VideoVae(VAE), folder / "Wan2.1_VAE.safetensors")
    _write_json(folder / "config.json", {"_class_name": "WanModel", **dataclasses.asdict(transformer)})
    _write_json(folder / "Wan2.1_VAE.json", {"latents_mean": VAE.latents_mean, "latents_std": VAE.latents_std})
    factors = (torch.randn(VAE.z_dim, 3) / 4).tolist()
    _write_json(folder / "latent_rgb.json", {"factors": factors, "bias": [0.0, 0.1, -0.1]})
    return folder


def _train_pieces(file: Path) -> int:
    """A SentencePiece model with T5's special ids; returns the size of its vocabulary."""
    model = io.BytesIO()
    sentences = [" ".join(WORDS[(i * step) % len(WORDS)] for i in range(8)) for step in range(1, 12)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=64, model_type="unigram",
        hard_vocab_limit=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    file.write_bytes(model.getvalue())
    return int(sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).vocab_size())


def _save(module: nn.Module, file: Path) -> None:
    save_file({name: value.contiguous() for name, value in module.state_dict().items()}, file)


def _write_json(file: Path, content: dict[str, object]) -> None:
    file.write_text(json.dumps(content), "utf-8")
