"""Names and shapes of the parameters of TAEHV, both halves, as functions of their sizes. Pure and torch-free."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from engine.weights.expected import Shape, Shapes

MARK = "decoder.3.conv.4.weight"
SUPER_MARK = "decoder.1.conv.3.weight"  # of the larger decoder
GROWTHS = (1, 2, 2)  # frames that each of the decoder's stages makes of one
SHRINKS = (2, 2, 1)  # frames of which each of the encoder's stages makes one
ENCODER_WIDTH = 64


@dataclass(frozen=True, slots=True)
class PreviewSizes:
    """Sizes of one file; `widths` are those of the decoder's three stages and of what the last one hands on."""

    latent_channels: int
    picture_channels: int
    widths: tuple[int, int, int, int]
    is_super: bool


def preview_sizes(stored: Mapping[str, Shape]) -> PreviewSizes:
    """The sizes that `stored` tensors show. Raises KeyError or IndexError."""
    is_super = SUPER_MARK in stored
    first = stored["decoder.0.weight" if is_super else "decoder.1.weight"]
    if is_super:
        second, third, last = (stored[f"decoder.{layer}.conv.weight"][1] for layer in (7, 14, 21))
    else:
        second, third, last = (stored[f"decoder.{layer}.weight"][0] for layer in (8, 14, 20))
    picture_channels = stored["decoder.22.weight"][0]
    return PreviewSizes(first[1], picture_channels, (first[0], second, third, last), is_super)


def preview_shapes(sizes: PreviewSizes) -> Shapes:
    """Every parameter of the decoder."""
    return _super_decoder(sizes) if sizes.is_super else _decoder(sizes)


def preview_encoder_shapes(sizes: PreviewSizes) -> Shapes:
    """Every parameter of the encoder, which files may hold as well and which previews do not need."""
    width = ENCODER_WIDTH
    shapes = _conv3("encoder.0", sizes.picture_channels, width) | _conv3("encoder.17", width, sizes.latent_channels)
    for stage, frames in enumerate(SHRINKS):
        layer = 2 + 5 * stage
        shapes |= {
            f"encoder.{layer}.conv.weight": (width, frames * width, 1, 1),
            f"encoder.{layer + 1}.weight": (width, width, 3, 3),
        }
        for block in range(layer + 2, layer + 5):
            shapes |= _memory_block(f"encoder.{block}", width)
    return shapes


def _decoder(sizes: PreviewSizes) -> Shapes:
    shapes = _conv3("decoder.1", sizes.latent_channels, sizes.widths[0])
    for stage, ((width, next_width), frames) in enumerate(zip(pairwise(sizes.widths), GROWTHS, strict=True)):
        layer = 3 + 6 * stage
        for block in range(layer, layer + 3):
            shapes |= _memory_block(f"decoder.{block}", width)
        shapes |= {
            f"decoder.{layer + 4}.conv.weight": (frames * width, width, 1, 1),
            f"decoder.{layer + 5}.weight": (next_width, width, 3, 3),
        }
    return shapes | _conv3("decoder.22", sizes.widths[-1], sizes.picture_channels)


def _super_decoder(sizes: PreviewSizes) -> Shapes:
    shapes: Shapes = {"decoder.0.weight": (sizes.widths[0], sizes.latent_channels, 1, 1)}
    for stage, ((width, next_width), frames) in enumerate(zip(pairwise(sizes.widths), GROWTHS, strict=True)):
        layer = 1 + 7 * stage
        for block in range(layer, layer + 3):
            shapes |= _super_block(f"decoder.{block}", width)
        shapes |= _conv3(f"decoder.{layer + 3}", width, 4 * next_width)
        shapes[f"decoder.{layer + 6}.conv.weight"] = (frames * next_width, next_width, 1, 1)
    return shapes | _conv3("decoder.22", sizes.widths[-1], sizes.picture_channels)


def _conv3(name: str, c_in: int, c_out: int) -> Shapes:
    return {f"{name}.weight": (c_out, c_in, 3, 3), f"{name}.bias": (c_out,)}


def _memory_block(name: str, width: int) -> Shapes:
    first = _conv3(f"{name}.conv.0", 2 * width, width)
    return first | _conv3(f"{name}.conv.2", width, width) | _conv3(f"{name}.conv.4", width, width)


def _super_block(name: str, width: int) -> Shapes:
    return {
        f"{name}.conv.0.weight": (2 * width, 1, 7, 7),
        f"{name}.conv.1.weight": (4 * width, 2 * width, 1, 1),
        f"{name}.conv.1.bias": (4 * width,),
        f"{name}.conv.3.weight": (width, 4 * width, 1, 1),
    }
