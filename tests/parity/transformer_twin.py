"""Small transformers, and the same networks as diffusers has them."""

import dataclasses

import torch
from diffusers import WanTransformer3DModel

from engine.models.transformer import TransformerConfig, WanTransformer
from tests.parity.fill import fill_parameters
from tests.parity.official import renamed

TINY = TransformerConfig(dim=256, ffn_dim=512, num_heads=2, num_layers=2, text_len=16, text_dim=64)
NARROW = TransformerConfig(
    dim=96, ffn_dim=160, freq_dim=64, num_heads=4, num_layers=1, in_dim=5, out_dim=3, text_len=6, text_dim=20
)
COARSE = dataclasses.replace(NARROW, num_heads=2, num_layers=3, in_dim=4, out_dim=4, patch_size=(1, 4, 4))


def filled_transformer(config: TransformerConfig) -> WanTransformer:
    """A network of `config` with reproducible weights."""
    model = WanTransformer(config)
    fill_parameters(model)
    return model


def diffusers_twin(model: WanTransformer) -> WanTransformer3DModel:
    """The same network with the same weights."""
    config = model.config
    peer = WanTransformer3DModel(
        patch_size=config.patch_size, num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
        in_channels=config.in_dim, out_channels=config.out_dim, text_dim=config.text_dim, freq_dim=config.freq_dim,
        ffn_dim=config.ffn_dim, num_layers=config.num_layers, eps=config.eps, rope_max_seq_len=32,
        image_dim=config.image_dim or None, added_kv_proj_dim=config.dim if config.has_image_branch else None,
        pos_embed_seq_len=config.image_positions or None,
    )  # fmt: skip
    peer.load_state_dict(renamed(model.state_dict(), "transformer"), strict=True)
    return peer.eval()


def silent_parameters(model: torch.nn.Module) -> list[str]:
    """Parameters without a gradient, but for those whose gradient is zero up to rounding.

    These are the biases of keys: a constant added to every key changes no softmax.
    """
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    return [name for name in silent if not name.endswith((".k.bias", ".k_img.bias"))]
