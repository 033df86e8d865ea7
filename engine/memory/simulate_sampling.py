"""Runs a step of sampling on tensors without values and counts what would be alive: the check on its formulas.

As `engine.memory.simulate` does for the decode, but here the card is played by the CPU and the host by the "meta"
device, which knows no autocast. What a back end of attention takes is allocated as `engine.attention.workspace` knows
it, since torch would attend there with whatever it has for a CPU.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.attention.attend import sdpa
from engine.attention.workspace import AttentionSize, attention_bytes
from engine.decode.room import Shape
from engine.denoise.cost import Sampling
from engine.denoise.streaming import Denoiser
from engine.generation import AttentionBackend
from engine.memory.block_swap import BlockSwap
from engine.memory.copy_lanes import SerialLane
from engine.memory.simulate import LiveStorages, Simulated
from engine.models.float32_islands import keeps_float32
from engine.models.quantized_linear import QuantizedLinear
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.sampling.guidance import guided
from engine.sampling.schedule import unipc_schedule
from engine.sampling.solvers import Past, unipc_step
from engine.weights.card import HOST_ONLY, WORK_BYTES, NetworkBytes
from engine.weights.dequantize import StoredTensors
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import Part, QuantFormat, WeightSource

CARD = "cpu"
HOST = "meta"
STEP = 2  # of four, the first at which UniPC's past is complete


class FusedAttention(TorchFunctionMode):
    """Lets torch's attention make its result and hold what `backend` would, and nothing else."""

    def __init__(self, backend: AttentionBackend) -> None:
        super().__init__()
        self._backend = backend

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 (torch names no type for a function)
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is F.scaled_dot_product_attention:
            return self._attended(*args)
        return func(*args, **(kwargs or {}))

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, heads, queries, channels = q.shape
        size = AttentionSize(b * heads, queries, k.shape[2], channels)
        result = v.new_empty(q.shape)
        counted = b * heads * queries * channels * 2  # of the result, whose values the formula takes to have two bytes
        torch.empty(attention_bytes(self._backend, size) - counted, dtype=torch.uint8, device=q.device)
        return result


def network_bytes_of(network: WanTransformer) -> NetworkBytes:
    """What `network` takes as its tensors are."""
    blocks = tuple(_bytes(block) for block in network.blocks)
    is_quantized = any(isinstance(layer, QuantizedLinear) for layer in network.modules())
    host = _bytes(network.time_projection)
    return NetworkBytes(_bytes(network) - sum(blocks) - host, blocks, WORK_BYTES if is_quantized else 0, host)


def network_without_values(
    config: TransformerConfig, dtype: torch.dtype, islands: torch.dtype, *, fp8: bool
) -> WanTransformer:
    """The network as it is loaded: blocks in host memory, all else on the card; call it under FakeTensorMode.

    islands: the dtype of what is used in float32. fp8: products inside blocks hold eight-bit floats.
    """
    with torch.device("meta"):
        network = WanTransformer(config)
    values = {
        name: torch.empty(
            p.shape,
            dtype=islands if keeps_float32(name) else dtype,
            device=HOST if name.startswith(("blocks.", *HOST_ONLY)) else CARD,
        )
        for name, p in network.named_parameters()
    }
    network.load_state_dict(values, assign=True)
    for name, layer in list(network.named_modules()) if fp8 else ():
        if isinstance(layer, nn.Linear) and is_quantized_layer(name, QuantFormat.FP8_E4M3):
            network.set_submodule(name, _in_eight_bits(layer), strict=True)
    return network.requires_grad_(False)


def simulate_sampling(
    sampling: Sampling, network: WanTransformer, resident_blocks: int, chunk_tokens: int
) -> Simulated:
    """One step of sampling with guidance and UniPC, its past complete; under the FakeTensorMode of `network`."""
    storages = LiveStorages()
    with torch.no_grad(), FusedAttention(sampling.attention), storages:
        for tensor in (*network.parameters(), *network.buffers()):
            storages.follow(tensor)
        swap = BlockSwap(list(network.blocks), torch.device(CARD), resident_blocks, room_on_host, lane=SerialLane())
        denoiser = Denoiser(network, swap.walk, chunk_tokens, sdpa)
        _step(sampling, denoiser)
        swap.close()
    return Simulated(storages.peak[CARD], storages.peak.get(HOST, 0))


def _step(sampling: Sampling, denoiser: Denoiser) -> None:
    """What the sampler holds, and one step."""
    config, batch = sampling.config, sampling.batch
    shape = (1, config.out_dim, *sampling.latent_size)
    x, sample, older, newer = (torch.empty(shape, device=CARD) for _ in range(4))
    clean = torch.empty(shape, device=CARD) if sampling.runs > 1 else None
    picture = torch.empty(1, config.in_dim - config.out_dim, *sampling.latent_size, device=CARD)
    texts = [
        torch.empty(1, config.text_len, config.text_dim, dtype=sampling.dtype, device=CARD)
        for _ in range(batch * sampling.passes)
    ]
    image = torch.empty(1, sampling.image_tokens, config.image_dim, device=CARD) if sampling.image_tokens else None

    def velocity(text: Tensor) -> Tensor:
        time = torch.empty(batch, sampling.runs, device=CARD)
        given = x if config.in_dim == config.out_dim else torch.cat([x, picture], dim=1)
        given = given if batch == 1 else torch.cat([given] * batch)
        features = image if image is None or batch == 1 else torch.cat([image] * batch)
        return denoiser.velocity(given, time, text, image=features)

    if batch > 1:
        joined = velocity(torch.cat(texts))
        found = joined[:1] + 4.0 * (joined[1:] - joined[:1])
    else:
        found = guided(velocity, texts[0], texts[1] if sampling.passes > 1 else None, 4.0)
    past = Past(sample, (older, newer), 2)
    unipc_step(unipc_schedule(4, 3.0), STEP, x, found, past)
    del clean


def room_on_host(shape: Shape, dtype: torch.dtype, _: torch.device) -> Tensor:
    """Memory of what plays the host."""
    return torch.empty(shape, dtype=dtype, device=HOST)


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def _in_eight_bits(layer: nn.Linear) -> QuantizedLinear:
    rows, columns = layer.weight.shape
    device = layer.weight.device
    data = torch.empty(rows, columns, dtype=torch.float8_e4m3fn, device=device)
    parts = {Part.WEIGHT_SCALE: torch.empty(rows, 1, device=device)}
    source = WeightSource("weight", (rows, columns), QuantFormat.FP8_E4M3, {part: part for part in parts})
    return QuantizedLinear(StoredTensors(source, "F8_E4M3", data, parts), layer.bias.detach())
