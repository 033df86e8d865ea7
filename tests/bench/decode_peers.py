"""Every decoder of the benchmark by name: ours as it can be cut, the plain one, `diffusers` and `fastvae`.

All are built from the same tensors, which they share but for those that a peer lays out anew. A decoder built from
tensors without values decodes without values, which is how its memory and its operations are counted.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from engine.commands import DecodeMode, DecodeSettings
from engine.decode.plan import DecodePlan
from engine.decode.reference import reference_blocks
from engine.decode.streaming import DecodedBlock, decode_blocks
from tests.bench.decode_case import Network, decoding_half, plain_picture, vae_input
from tests.parity.official import renamed

Blocks = Callable[[Tensor], Iterable[DecodedBlock]]


@dataclass(frozen=True, slots=True)
class Built:
    """A decoder with its weights: normalised latents in host memory to blocks, wherever the decoder makes them."""

    weights: Sequence[Tensor]
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Decoder:
    """How to build a decoder; one with `settings` is ours and takes a plan made for them.

    on_card_only: of no interest on a CPU. has_kernels: brings or makes its own, so that it cannot run without values.
    """

    build: Callable[[Network, DecodePlan | None], Built]
    settings: DecodeSettings | None = None
    on_card_only: bool = False
    has_kernels: bool = False


def build_ours(network: Network, plan: DecodePlan | None) -> Built:
    """Ours, cut as `plan` says."""
    assert plan is not None
    cut = plan
    vae = decoding_half(network.config)
    vae.load_state_dict(network.state, strict=True, assign=True)

    def blocks(latents: Tensor) -> Iterable[DecodedBlock]:
        if cut.tiling is not None:
            return reference_blocks(vae, latents, cut.tiling)
        return decode_blocks(vae, latents, cut)

    return Built(weights_of(vae), blocks)


def build_plain(network: Network, _: DecodePlan | None) -> Built:
    """The untiled decode as anybody would write it down."""
    return Built(list(network.state.values()), lambda latents: whole(plain_picture(network, latents)))


def build_diffusers(network: Network, _: DecodePlan | None) -> Built:
    """AutoencoderKLWan as it comes: untiled."""
    return of_diffusers(network, diffusers_vae(network))


def build_diffusers_tiled(network: Network, _: DecodePlan | None) -> Built:
    """AutoencoderKLWan with its own default tiles, 256 pixels every 192."""
    peer = diffusers_vae(network)
    peer.enable_tiling()
    return of_diffusers(network, peer)


def build_diffusers_channels_last(network: Network, _: DecodePlan | None) -> Built:
    """AutoencoderKLWan untiled, with channels innermost."""
    peer = channels_innermost(diffusers_vae(network))
    return of_diffusers(network, peer, torch.channels_last_3d)


def build_diffusers_compiled(network: Network, _: DecodePlan | None) -> Built:
    """AutoencoderKLWan untiled, with channels innermost and its decoder compiled."""
    peer = channels_innermost(diffusers_vae(network))
    peer.decoder.forward = torch.compile(peer.decoder.forward, dynamic=False)
    return of_diffusers(network, peer, torch.channels_last_3d)


def build_fastvae(network: Network, _: DecodePlan | None) -> Built:
    """fastvae's decoder around AutoencoderKLWan. Raises ImportError where it, or what it needs, is not installed."""
    fastvae = importlib.import_module("fastvae")
    decoder = fastvae.FastVAEDecoder.from_vae(diffusers_vae(network)).to(network.device)
    return Built(weights_of(decoder), lambda latents: whole(decoder.decode(vae_input(network, latents))[0]))


def of_diffusers(
    network: Network, peer: AutoencoderKLWan, layout: torch.memory_format = torch.contiguous_format
) -> Built:
    """`peer` as a decoder that is given latents in `layout`."""

    def blocks(latents: Tensor) -> Iterable[DecodedBlock]:
        z = vae_input(network, latents).contiguous(memory_format=layout)
        return whole(peer.decode(z, return_dict=False)[0][0])

    return Built(weights_of(peer), blocks)


def diffusers_vae(network: Network) -> Any:  # noqa: ANN401 (diffusers is not typed)
    """AutoencoderKLWan on the network's own tensors, without its encoder."""
    config = network.config
    with torch.device("meta"):
        peer = AutoencoderKLWan(
            base_dim=config.dim,
            z_dim=config.z_dim,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.num_res_blocks,
            temperal_downsample=list(config.temporal_downsample),
        )
    del peer.encoder, peer.quant_conv
    peer.load_state_dict(renamed(network.state, "video_vae"), strict=True, assign=True)
    return peer.eval().requires_grad_(requires_grad=False)


def channels_innermost(peer: AutoencoderKLWan) -> AutoencoderKLWan:
    """`peer` with the kernels of its convolutions, two- and three-dimensional, laid out anew."""
    for layer in peer.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            layout = torch.channels_last_3d if isinstance(layer, nn.Conv3d) else torch.channels_last
            layer.weight.data = layer.weight.data.contiguous(memory_format=layout)
    return peer


def weights_of(module: nn.Module) -> list[Tensor]:
    """All that a network keeps."""
    return [*module.parameters(), *module.buffers()]


def whole(picture: Tensor) -> list[DecodedBlock]:
    """A picture [3, F, H, W] as the one block of its decode."""
    return [DecodedBlock(0, 0, picture)]


def ours(mode: DecodeMode, strip_rows: int | None = None) -> Decoder:
    """Ours in `mode`."""
    return Decoder(build_ours, DecodeSettings(mode, strip_rows))


DECODERS: dict[str, Decoder] = {
    "automatic": ours(DecodeMode.AUTOMATIC),
    "strips-32": ours(DecodeMode.STRIP_MAJOR, 32),
    "frames-32": ours(DecodeMode.FRAME_MAJOR, 32),
    "whole": ours(DecodeMode.WHOLE),
    "reference": ours(DecodeMode.REFERENCE),
    "plain": Decoder(build_plain),
    "diffusers": Decoder(build_diffusers),
    "diffusers-tiled": Decoder(build_diffusers_tiled),
    "diffusers-channels-last": Decoder(build_diffusers_channels_last, on_card_only=True),
    "diffusers-compiled": Decoder(build_diffusers_compiled, on_card_only=True, has_kernels=True),
    "fastvae": Decoder(build_fastvae, on_card_only=True, has_kernels=True),
}
