"""Which layers quantising stores smaller. Pure and torch-free."""

import re

from engine.weights.source import QuantFormat

# The products that hold nearly all weights of the transformer and of the text encoder. The others are small, or
# decide more than their share: embeddings, the path of the timestep, the head.
LAYERS = re.compile(
    r"blocks\.\d+\.(?:(?:self_attn|cross_attn)\.(?:q|k|v|o|k_img|v_img)|attn\.[qkvo]|ffn\.(?:0|2|gate\.0|fc1|fc2))"
)

# Eight bits are enough for what the transformer makes of the encoded text, once a step and of few rows.
LAYERS_OF_EIGHT_BITS = re.compile(r"text_embedding\.[02]")


def is_quantized_layer(name: str, to: QuantFormat) -> bool:
    """Whether quantising in the form `to` makes the linear layer `name`, as official checkpoints call it, smaller."""
    if to is QuantFormat.FP8_E4M3 and LAYERS_OF_EIGHT_BITS.fullmatch(name):
        return True
    return LAYERS.fullmatch(name) is not None
