"""Products with stored weights in tensor cores that take them as they are, and which of them a device has.

The input is rounded as it comes, with scales of its own. L rows of the input, K columns of input and weight, M output
features. Lives on the engine's thread.
"""

from enum import StrEnum

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.weights.block_scales import swizzle
from engine.weights.fp8 import encode_fp8, fp8_scale
from engine.weights.nvfp4 import encode_nvfp4, pack, tensor_scale_for
from engine.weights.source import QuantFormat


class Product(StrEnum):
    """How a product with a stored weight is computed."""

    DEQUANTIZED = "dequantized"  # with the weight's values, block by block
    FP8 = "fp8"  # in eight bits, the input rounded to e4m3
    NVFP4 = "nvfp4"  # in four bits, the input rounded to NVFP4


class Why(StrEnum):
    """Why a product is computed as it is."""

    AS_ASKED = "as_asked"
    NOT_ASKED = "not_asked"  # the input is not to be rounded
    NO_TENSOR_CORES = "no_tensor_cores"  # none of any card take weights that are stored so
    NOT_NVIDIA = "not_nvidia"
    UNEVEN_SIZE = "uneven_size"
    OLDER_CARD = "older_card"


# The first cards that have the product: Ada, Blackwell.
CAPABILITIES = {
    QuantFormat.FP8_E4M3: (Product.FP8, (8, 9)),
    QuantFormat.NVFP4: (Product.NVFP4, (10, 0)),
}
MULTIPLE = 32  # of K and M: rows of 16 bytes, in four bits too
BLOCKS, WHOLE = F.ScalingType.BlockWise1x16, F.ScalingType.TensorWise
TILED, PLAIN = F.SwizzleType.SWIZZLE_32_4_4, F.SwizzleType.NO_SWIZZLE


def product_of(device: torch.device, quantization: QuantFormat, shape: tuple[int, ...]) -> tuple[Product, Why]:
    """How `device` computes a product with a weight stored so, of `shape` (M, K), and why."""
    if quantization not in CAPABILITIES:
        return Product.DEQUANTIZED, Why.NO_TENSOR_CORES
    product, needed = CAPABILITIES[quantization]
    if device.type != "cuda" or torch.version.cuda is None:
        return Product.DEQUANTIZED, Why.NOT_NVIDIA
    if any(size % MULTIPLE for size in shape):
        return Product.DEQUANTIZED, Why.UNEVEN_SIZE
    if torch.cuda.get_device_capability(device) < needed:
        return Product.DEQUANTIZED, Why.OLDER_CARD
    return product, Why.AS_ASKED


def fp8_product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x [L, K] times the transpose of a weight (e4m3 [M, K]) with its float32 scale [] or [M, 1]: [L, M] float32.

    Scales of rows are applied to the product: the instruction that takes them is missing on Windows.
    """
    input_scale = fp8_scale(x.abs().max())
    one = torch.ones_like(input_scale)
    rounded = encode_fp8(x, input_scale)
    product = F.scaled_mm(rounded, weight.t(), input_scale, WHOLE, one, WHOLE, output_dtype=torch.float32)
    return product.mul_(scale.reshape(-1))


def nvfp4_product(
    x: Tensor, packed: Tensor, block_scales: Tensor, tensor_scale: Tensor, *, low_nibble_first: bool
) -> Tensor:
    """x [L, K] times the transpose of an NVFP4 weight (uint8 [M, K/2], swizzled e4m3, float32 []): [L, M] bfloat16.

    Which half of a byte comes first does not matter, as long as it is the same in both factors.
    """
    input_scale = tensor_scale_for(x.abs().max())
    codes, scales = encode_nvfp4(x, input_scale, (0,))
    return F.scaled_mm(
        pack(codes, low_nibble_first=low_nibble_first).view(torch.float4_e2m1fn_x2),
        packed.view(torch.float4_e2m1fn_x2).t(),
        [swizzle(scales).flatten(), input_scale],
        [BLOCKS, WHOLE],
        [block_scales.flatten().view(torch.float8_e4m3fn), tensor_scale],
        [BLOCKS, WHOLE],
        [TILED, PLAIN],
        [TILED, PLAIN],
        output_dtype=torch.bfloat16,
    )
