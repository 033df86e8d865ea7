"""Which layers quantising stores smaller. Pure and torch-free."""

import re

# The products that hold nearly all weights of the transformer and of the text encoder. The others are small, or
# decide more than their share: embeddings, the path of the timestep, the head.
LAYERS = re.compile(
    r"blocks\.\d+\.(?:(?:self_attn|cross_attn)\.(?:q|k|v|o|k_img|v_img)|attn\.[qkvo]|ffn\.(?:0|2|gate\.0|fc1|fc2))"
)


def is_quantized_layer(name: str) -> bool:
    """Whether the linear layer called `name`, as in official checkpoints, is one that quantising stores smaller."""
    return LAYERS.fullmatch(name) is not None
