"""Transformers of the true shapes with random weights, made on the device in the form that they are held in.

Every value depends on the tensor's name alone, so that two networks on one device are the same network. In float32
the larger one would be 57 GB; here nothing is ever larger than one weight in bfloat16.
"""

import functools
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.memory.simulate_sampling import network_bytes_of
from engine.models.quantized_linear import QuantizedLinear
from engine.models.transformer import TransformerConfig, WanTransformer
from engine.weights.card import NetworkBytes
from engine.weights.dequantize import StoredTensors
from engine.weights.fp8 import E4M3_MAX
from engine.weights.quantized_layers import is_quantized_layer
from engine.weights.source import Part, QuantFormat, WeightSource

MODELS = {
    "tiny": TransformerConfig(dim=256, ffn_dim=512, num_heads=2, num_layers=4, text_len=16, text_dim=64),
    "1.3B": TransformerConfig(),
    "14B": TransformerConfig(dim=5120, ffn_dim=13824, num_heads=40, num_layers=40),
}
BF16, FP8 = "bf16", "fp8_scaled"
FORMS = (BF16, FP8)
DTYPE = torch.bfloat16
CODE_SCALE = 64.0  # standard deviation of the codes, as that of a row whose largest value is near the largest code
BIAS_SCALE = 0.02

Load = Callable[[int], None]


def network_without_blocks(config: TransformerConfig, form: str, device: torch.device) -> tuple[WanTransformer, Load]:
    """The network with its shell on `device`, and what gives block i its tensors there."""
    with torch.device("meta"):
        network = WanTransformer(config).requires_grad_(requires_grad=False).eval()
    names = (name for name, _ in network.named_children() if name != "blocks")
    for name in names:
        give(network.get_submodule(name), f"{name}.", form, device)
    return network, lambda index: give(network.blocks[index], f"blocks.{index}.", form, device)


@functools.cache
def bytes_of(model: str, form: str) -> NetworkBytes:
    """What a network of `MODELS` takes in `form`; none of its values are made for that."""
    with FakeTensorMode():
        network, load = network_without_blocks(MODELS[model], form, torch.device("cpu"))
        for index in range(len(network.blocks)):
            load(index)
        return network_bytes_of(network)


def give(module: nn.Module, prefix: str, form: str, device: torch.device) -> None:
    """Give every tensor of `module`, whose names begin with `prefix`, its values on `device`."""
    for name, layer in list(module.named_modules()):
        if form == FP8 and isinstance(layer, nn.Linear) and is_quantized_layer(prefix + name, QuantFormat.FP8_E4M3):
            quantized = in_eight_bits(f"{prefix}{name}.", layer, device)
            module.set_submodule(name, quantized, strict=True)
    values = {
        name: value_of(prefix + name, parameter.shape, device)
        for name, parameter in module.named_parameters()
        if parameter.is_meta
    }
    module.load_state_dict(values, strict=False, assign=True)
    module.requires_grad_(requires_grad=False)


def state_of(config: TransformerConfig, device: torch.device, keep_on: torch.device) -> dict[str, Tensor]:
    """All tensors of the network in bfloat16 by name: made on `device`, each then brought to `keep_on`."""
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in WanTransformer(config).named_parameters()}
    return {name: value_of(name, shape, device).to(keep_on) for name, shape in shapes.items()}


def value_of(name: str, shape: torch.Size, device: torch.device) -> Tensor:
    """A parameter in bfloat16 that leaves the stream about as large as it found it."""
    if "norm" in name and name.endswith("weight"):
        return torch.ones(shape, dtype=DTYPE, device=device)
    values = torch.randn(shape, dtype=DTYPE, device=device, generator=generator_of(name, device))
    if name.endswith("bias"):
        return values.mul_(BIAS_SCALE)
    columns = shape[-1] if "modulation" in name else shape.numel() // shape[0]
    return values.mul_(columns**-0.5)


def in_eight_bits(prefix: str, layer: nn.Linear, device: torch.device) -> QuantizedLinear:
    """A layer like `layer` with random codes of e4m3 and a scale for each row."""
    rows, columns = layer.weight.shape
    name = f"{prefix}weight"
    codes = torch.randn(rows, columns, dtype=DTYPE, device=device, generator=generator_of(name, device))
    data = codes.mul_(CODE_SCALE).clamp_(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn)
    scale = torch.full((rows, 1), columns**-0.5 / CODE_SCALE, device=device)
    source = WeightSource(name, (rows, columns), QuantFormat.FP8_E4M3, {Part.WEIGHT_SCALE: Part.WEIGHT_SCALE})
    stored = StoredTensors(source, "F8_E4M3", data, {Part.WEIGHT_SCALE: scale})
    return QuantizedLinear(stored, value_of(f"{prefix}bias", layer.bias.shape, device))


def generator_of(name: str, device: torch.device) -> torch.Generator:
    """Random numbers that are the same for the same name on the same kind of device."""
    return torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
