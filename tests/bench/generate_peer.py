"""`diffusers` with the same random weights, its blocks on the card or offloaded there in groups of one, by streams."""

import gc
from importlib.util import find_spec
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from diffusers.hooks import apply_group_offloading
from torch import Tensor

from engine.device import release_memory
from engine.models.transformer import TransformerConfig
from tests.bench.generate_networks import DTYPE, state_of
from tests.bench.generate_step import Predict
from tests.parity.official import renamed

CPU = torch.device("cpu")
PEERS = {"diffusers, offloaded": True, "diffusers": False}  # whether blocks wait in host memory


def build_peer(config: TransformerConfig, device: torch.device, *, is_offloaded: bool) -> Predict:
    """Velocities as `diffusers` predicts them in bfloat16, with what it keeps in float32 in that.

    Raises ImportError without the package that its offloading needs.
    """
    if is_offloaded and find_spec("accelerate") is None:
        raise ImportError("diffusers offloads with accelerate, which is not installed")
    peer = diffusers_transformer(config, state_of(config, device, CPU if is_offloaded else device))
    if is_offloaded:
        apply_group_offloading(
            peer,
            onload_device=device,
            offload_device=CPU,
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=device.type == "cuda",
        )
    else:
        peer.to(device)

    def predict(x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        return peer(x.to(DTYPE), time, text, return_dict=False)[0].float()

    return predict


def diffusers_transformer(config: TransformerConfig, state: dict[str, Tensor]) -> Any:  # noqa: ANN401 (not typed)
    """WanTransformer3DModel on the tensors of `state`, which have official names."""
    with torch.device("meta"):
        peer = WanTransformer3DModel(
            patch_size=config.patch_size, num_attention_heads=config.num_heads, attention_head_dim=config.head_dim,
            in_channels=config.in_dim, out_channels=config.out_dim, text_dim=config.text_dim,
            freq_dim=config.freq_dim, ffn_dim=config.ffn_dim, num_layers=config.num_layers, eps=config.eps,
        )  # fmt: skip
    # Its tables are no weights: they are computed when it is made, which on "meta" they were not.
    peer.rope = type(peer.rope)(config.head_dim, config.patch_size, peer.config.rope_max_seq_len)
    peer.load_state_dict(renamed(state, "transformer"), strict=True, assign=True)
    wide = set(peer._keep_in_fp32_modules)
    for name, parameter in peer.named_parameters():
        if not wide.isdisjoint(name.split(".")):
            parameter.data = parameter.data.float()
    return peer.eval().requires_grad_(False)


def free_leftovers(device: torch.device) -> None:
    """Free what hooks hold in circles, what torch keeps of the card, and what it keeps page-locked."""
    gc.collect()
    release_memory(device)
    if device.type == "cuda":
        torch.accelerator.empty_host_cache()
