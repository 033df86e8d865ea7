"""What all decoders of the benchmark are given: weights, latents and the exact picture, the same on every machine.

T frames of latents, F of the picture, C channels, H height, W width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.memory.simulate import CARD
from engine.models.video_vae import VideoVae, VideoVaeConfig
from tests.engine.plain_decode import PlainDecoder
from tests.parity.fill import fill_parameters

State = dict[str, Tensor]
Shape = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Network:
    """The tensors of `decoder` and `conv2` by their official names, all on one device and of one dtype."""

    config: VideoVaeConfig
    state: State

    @property
    def dtype(self) -> torch.dtype:
        """Of every weight."""
        return self.state["conv2.weight"].dtype

    @property
    def device(self) -> torch.device:
        """Of every weight."""
        return self.state["conv2.weight"].device


@dataclass(frozen=True, slots=True)
class Case:
    """Normalised `latents` [1, z, T, h, w] and their untiled float32 picture [3, F, H, W], float32 in host memory."""

    network: Network
    latents: Tensor
    exact: Tensor

    @property
    def shape(self) -> Shape:
        """Latent frames, rows and columns."""
        frames, rows, columns = self.latents.shape[2:]
        return frames, rows, columns


def latent_shape(config: VideoVaeConfig, size: tuple[int, int], frames: int) -> Shape:
    """Latent frames, rows and columns of a clip of `size` (width, height). Raises ValueError where it is not whole."""
    width, height = size
    factor = config.spatial_factor
    if width % factor or height % factor or (frames - 1) % config.temporal_factor or min(*size, frames) < 1:
        raise ValueError(f"{width}x{height}, {frames} frames: sides are multiples of {factor}, frames 4n+1")
    return config.latent_frames(frames), height // factor, width // factor


def make_case(config: VideoVaeConfig, shape: Shape, dtype: torch.dtype, device: torch.device) -> Case:
    """Reproducible weights and latents on `device`, and the picture that plain float32 makes of these very weights.

    The head is scaled by a power of two, which rounds nothing, so that no pixel is outside -1..1: clamping would hide
    differences.
    """
    state = {name: tensor.to(device, dtype) for name, tensor in random_state(config).items()}
    latents = torch.randn(1, config.z_dim, *shape, generator=torch.Generator().manual_seed(0))
    exact = exact_picture(Network(config, {name: tensor.float() for name, tensor in state.items()}), latents)
    scale = 2.0 ** -math.ceil(math.log2(exact.abs().max().item()))
    for name in ("decoder.head.2.weight", "decoder.head.2.bias"):
        state[name] *= scale
    return Case(Network(config, state), latents, exact.mul_(scale))


def random_state(config: VideoVaeConfig) -> State:
    """Weights that any program can regenerate from their names, float32 in host memory."""
    half = decoding_half(config).to_empty(device="cpu")
    return fill_parameters(half).state_dict()


def empty_state(config: VideoVaeConfig, dtype: torch.dtype) -> State:
    """Tensors without values on the pretended card; call it under FakeTensorMode."""
    shapes = {name: parameter.shape for name, parameter in decoding_half(config).named_parameters()}
    return {name: torch.empty(shape, dtype=dtype, device=CARD) for name, shape in shapes.items()}


def decoding_half(config: VideoVaeConfig) -> VideoVae:
    """Our VAE without its encoder and without memory."""
    with torch.device("meta"):
        vae = VideoVae(config)
    del vae.encoder, vae.conv1
    return vae.eval().requires_grad_(requires_grad=False)


def vae_input(network: Network, latents: Tensor) -> Tensor:
    """Normalised latents as the decoder was trained on them, z * std + mean, in the weights' place and dtype."""
    config = network.config
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (config.latents_mean, config.latents_std))
    return (latents * std + mean).to(network.device, network.dtype)


def plain_picture(network: Network, latents: Tensor) -> Tensor:
    """The untiled decode written plainly, [3, F, H, W] where the weights are."""
    config = network.config
    temporal, stages = config.temporal_downsample[::-1], len(config.dim_mult)
    decoder = PlainDecoder(network.state, temporal, config.num_res_blocks, stages)
    return decoder.decode(vae_input(network, latents))[0]


def exact_picture(network: Network, latents: Tensor) -> Tensor:
    """`plain_picture` in host memory, without gradients."""
    with torch.no_grad():
        return plain_picture(network, latents).cpu()
