"""What a file declares of the form of its layers: Comfy's quantisation metadata, in its header or beside each weight.

Pure; the few bytes of a declaration that is a tensor are read by the caller.
"""

from collections.abc import Callable, Mapping
from typing import Any

from engine.weights.header import Header
from engine.weights.names import Naming, official_layer
from engine.weights.strict_json import parse_object

METADATA = "_quantization_metadata"
COMFY_QUANT = ".comfy_quant"
MOST_BYTES = 1 << 16  # of one declaration, which is a line of JSON

ReadBytes = Callable[[str], bytes]  # the bytes of the tensor of that stored name, as they are in the file
Declared = Mapping[str, Any]  # what a file says of a layer: {"format": ..., ...}


def declared_layers(
    naming: Naming, header: Header, metadata: Mapping[str, str], read: ReadBytes
) -> dict[str, Declared]:
    """What the file says of each layer, by official names. Raises ValueError for what is no such declaration."""
    layers = _in_header(naming, metadata)
    for stored, official in naming.official.items():
        if official.endswith(COMFY_QUANT):
            layers[official.removesuffix(COMFY_QUANT)] = _beside_weight(stored, header, read)
    return layers


def _in_header(naming: Naming, metadata: Mapping[str, str]) -> dict[str, Declared]:
    text = metadata.get(METADATA)
    if text is None:
        return {}
    layers = _parsed(METADATA, text.encode()).get("layers")
    if not isinstance(layers, dict):
        raise ValueError(f"{METADATA} names no layers")
    for layer, said in layers.items():
        if not isinstance(said, dict) or not isinstance(said.get("format"), str):
            raise ValueError(f"{METADATA} names no format of {layer}")
    return {official_layer(layer, naming): said for layer, said in layers.items()}


def _beside_weight(stored: str, header: Header, read: ReadBytes) -> Declared:
    info = header[stored]
    if info.dtype != "U8" or info.byte_count > MOST_BYTES:
        raise ValueError(f"{stored} is {info.dtype} of {info.byte_count} bytes, not a text")
    said = _parsed(stored, read(stored))
    if not isinstance(said.get("format"), str):
        raise ValueError(f"{stored} names no format")
    return said


def _parsed(name: str, text: bytes) -> dict[str, Any]:
    try:
        return parse_object(text.rstrip(b"\0 "))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
